# Everything a newcomer needs: `make demo`, `make test`, `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs format clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A name alone proves nothing (version managers leave stubs on the PATH), so each interpreter is asked to run.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
TORCH := $(shell sed -n 's/^ *"\(torch>[^"]*\)",$$/\1/p' pyproject.toml)

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# torch goes first: a build that is already there (CPU or CUDA) satisfies the range and stays.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed on the PATH (or PYTHON=/path/to/python)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing $(TORCH), then drt, into $(VENV)"
	@$(PIP) "$(TORCH)"
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## install into .venv and compile the first example to build/demo.py
	@$(BIN)/drt compile examples/gemm_gelu_softmax.py -o build/demo.py

test: lint types  ## lint, format check, types, then the tests
	@$(BIN)/python -m pytest -q -n 2 -rs

lint: $(STAMP)  ## ruff: rules and formatting
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

# mypy does not see through the package-dir mapping; the link gives it a folder named `drt`.
types: $(STAMP)  ## mypy over the package
	@mkdir -p .tree && ln -sfn .. .tree/drt
	@MYPYPATH=.tree $(BIN)/mypy --no-error-summary -p drt

docs: $(STAMP)  ## regenerate docs/ops.md from the operator definitions
	@$(BIN)/python -m drt.ir.docgen

format: $(STAMP)  ## rewrite files as ruff formats them
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

clean:  ## remove what the other targets made, .venv included
	@rm -rf build dist .tree *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)
