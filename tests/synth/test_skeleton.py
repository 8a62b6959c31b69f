"""Skeletons: exact counts against brute force, exact marginals, chi-squared of draws."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from drt.ir import Unsatisfiable, builtin_ops
from drt.synth import Relations, Sampler, Spec
from drt.synth.skeleton import Skeletons, wire
from drt.synth.stats import chi_squared_p, kolmogorov_p

NAMES = ("relu", "add", "matmul", "linear", "sum", "softmax", "where", "lt", "cast", "max_dim", "cat", "conv2d", "dot")


@pytest.fixture(scope="module")
def signatures():
    relations = Relations(builtin_ops(), ("f32", "bool", "i64"), max_rank=4)
    return {n: relations.signatures(builtin_ops()[n]) for n in NAMES}


@pytest.mark.parametrize("level", [1, 2, 3, 5])
def test_marginals_of_the_model_are_uniform(signatures, level):
    model = Skeletons(signatures, level)
    assert model.error < 1e-5
    for t, marginal in enumerate(model.marginals):
        n = len(model.possible[t])
        for name, p in zip(model.names, marginal.tolist(), strict=True):
            expected = 1 / n if name in model.possible[t] else 0
            assert p == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("level", [2, 3])
def test_draws_follow_the_model(signatures, level):
    model = Skeletons(signatures, level)
    rng = random.Random(level)
    counts = [Counter() for _ in range(level)]
    for _ in range(4000):
        _, steps = model.draw(rng)
        for t, s in enumerate(steps):
            counts[t][s.choice.number] += 1
    for t, target in enumerate(model.targets):
        p = chi_squared_p([counts[t][i] for i in range(len(NAMES))], [4000 * x for x in target.tolist()])
        assert p > 1e-4


def test_paths_are_drawn_in_proportion_to_their_weight(signatures):
    """At level 2, draws agree with the enumeration of all (operator, types, wiring) pairs weighted by the model."""
    model = Skeletons(signatures, 2)
    weight: Counter = Counter()
    end = model._empty
    for s, _ in enumerate(model._start_states):
        for a in range(int(model._first[s]), int(model._first[s + 1])):
            w1 = model._coefficient[a] * model._key_weights(model._weights[0])[model._key[a]]
            m = int(model._target[a])
            for b in range(int(model._first[m]), int(model._first[m + 1])):
                if int(model._target[b]) == end:
                    w2 = model._coefficient[b] * model._key_weights(model._weights[1])[model._key[b]]
                    weight[int(model._key[a]), int(model._key[b])] += float(w1 * w2)
    total = sum(weight.values())
    key = {k: i for i, k in enumerate(model._keys)}
    rng = random.Random(5)
    counts: Counter = Counter()
    for _ in range(6000):
        _, steps = model.draw(rng)
        counts[
            tuple(
                key[
                    s.choice.signature.results[s.choice.result], tuple(sorted(s.choice.slots[i] for i in s.choice.open))
                ]
                for s in steps
            )
        ] += 1
    assert set(counts) <= set(weight)
    common = [k for k, w in weight.items() if 6000 * w / total >= 8]
    rest = 6000 - sum(counts[k] for k in common)
    expected = [6000 * weight[k] / total for k in common]
    assert chi_squared_p([*(counts[k] for k in common), rest], [*expected, 6000 - sum(expected)]) > 1e-4


def test_every_operator_is_live(signatures):
    model = Skeletons(signatures, 5)
    rng = random.Random(0)
    for _ in range(300):
        start, steps = model.draw(rng)
        nodes, outputs = wire(start, steps, model.types, rng)
        used = {o[0] for w in nodes for o in w.operands if o is not None} | {p for p, _ in outputs}
        assert used == set(range(5))
        for place, w in enumerate(nodes):
            for slot, o in enumerate(w.operands):
                if o is not None:
                    assert o[0] < place
                    assert nodes[o[0]].choice.signature.results[o[1]] == w.choice.slots[slot]


def test_draws_for_given_operators_keep_them(signatures):
    model = Skeletons(signatures, 3)
    rng = random.Random(1)
    for _ in range(20):
        _, steps = model.draw(rng)
        numbers = [s.choice.number for s in steps]
        _, again = model.draw_for(numbers, rng)
        assert [s.choice.number for s in again] == numbers


def test_impossible_levels_are_refused(signatures):
    only = {n: signatures[n] for n in ("dot", "conv2d")}
    with pytest.raises(Unsatisfiable, match="level 0"):
        Skeletons(only, 0)
    with pytest.raises(Unsatisfiable, match="no program of exactly 2"):
        Skeletons({"dot": signatures["dot"]}, 2)


def test_statistics_agree_with_known_values():
    # Critical values of chi-squared (NIST handbook, table 1.3.6.7.4).
    assert chi_squared_p([10 + 3.841**0.5 * 5**0.5, 10 - 3.841**0.5 * 5**0.5], [10, 10]) == pytest.approx(
        0.05, abs=1e-4
    )
    assert chi_squared_p([5] * 11, [5] * 11) == 1.0
    assert kolmogorov_p([(i + 0.5) / 100 for i in range(100)]) > 0.99
    assert kolmogorov_p([0.01 * i / 100 for i in range(100)]) < 1e-6


def test_templates_are_kept_and_damaged_files_are_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = Spec(level=3, ops=("relu", "add", "max_pool1d", "reshape", "cat"), max_rank=3)

    def texts(damage=None):
        sampler = Sampler(spec)
        files = sorted(sampler.store.folder.glob("*.json"))
        for f in files:
            if damage:
                f.write_text(damage(f.read_text()))
        found = [p.text for p in map(sampler.program, range(40)) if p is not None]
        made = sampler.store.fresh
        sampler.store.save()
        return found, made, len(files)

    first, made, files = texts()
    assert made and not files
    again, made, files = texts()
    assert again == first and not made and files == len(spec.ops)
    for damage in (lambda t: t[: len(t) // 2], lambda t: t.replace("0", "1"), lambda t: ""):
        again, made, _ = texts(damage)
        assert again == first and made
