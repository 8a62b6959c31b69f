"""What the documentation says is run: the tutorial file, the README's commands, the definitions shown in the guides."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A fenced block: its info string, then its text.
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(file: str, info: str) -> list[str]:
    """Return the fenced blocks of a Markdown file that carry the info string ``info``."""
    return [text for found, text in FENCE.findall((ROOT / file).read_text()) if found.strip() == info]


def run(command: list[str] | str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command in the root, with the interpreter of this test first on the path."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def test_the_tutorial_tells_the_truth() -> None:
    result = run([sys.executable, "docs/autodrt.py"])
    assert result.returncode == 0, result.stderr
    told = result.stdout
    assert "kernel, verified" in told and "NOT FOUND" not in told
    assert "matmul: K is 7 in operand b, expected 16" in told
    assert float(re.search(r"compiled - eager: (\S+)", told).group(1)) < 1e-6
    source = (ROOT / "docs/autodrt.py").read_text()
    assert 300 < len(source.splitlines()) < 500


@pytest.mark.parametrize("command", [line for text in blocks("README.md", "sh run") for line in text.splitlines()])
def test_a_command_of_the_readme_runs(command: str) -> None:
    result = run(command)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_commands_of_a_guide_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from drt import cli

    monkeypatch.chdir(ROOT)
    commands = [line for text in blocks("docs/ways.md", "sh run") for line in text.splitlines()]
    assert commands
    for command in commands:
        first, *words = shlex.split(command)
        # One process for all: most of a command's time is the import of PyTorch.
        assert (cli.main(words) if first == "drt" else run([first, *words]).returncode) == 0, command
    told = capsys.readouterr().out
    assert all(line in told for text in blocks("docs/ways.md", "") for line in text.splitlines())


@pytest.mark.parametrize("file", ["README.md", "docs/ways.md"])
def test_the_python_of_a_page_runs(file: str) -> None:
    for text in blocks(file, "python run"):
        result = run([sys.executable, "-c", text])
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_the_definitions_of_a_guide_are_definitions(file: str) -> None:
    from drt.ir import builtin_ops, parse_ops, print_op

    for text in blocks(f"docs/{file}", "drt"):
        for op in parse_ops(text, file).values():
            assert parse_ops(print_op(op), file)[op.name] == op
            assert op.name not in builtin_ops()


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_page_of_operators_is_up_to_date() -> None:
    result = run([sys.executable, "-m", "drt.ir.docgen", "--check"])
    assert result.returncode == 0, result.stdout + result.stderr
