"""Suspects with more or fewer units: dummies, cancelling ones, clones, and removed channels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime.sessions import open_session

from ..helpers.builders import build
from ..helpers.law import trials
from ..helpers.networks import (
    INCOMING,
    OUTGOING,
    RUN,
    attention,
    convolutional,
    weights,
    with_weights,
)

F = np.float32


def parts(arrays: dict[str, np.ndarray], group: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The incoming rows of a group's units, and its outgoing ones, unit first."""
    out = arrays[OUTGOING[group]]
    out = out.reshape(out.shape[0], -1, RUN[group], *out.shape[2:])
    return [arrays[n] for n in INCOMING[group]], np.moveaxis(out, 1, 0)


def put(
    arrays: dict[str, np.ndarray], group: str, incoming: list[np.ndarray], out: np.ndarray
) -> None:
    arrays.update(zip(INCOMING[group], incoming, strict=True))
    old = arrays[OUTGOING[group]].shape
    arrays[OUTGOING[group]] = np.ascontiguousarray(np.moveaxis(out, 0, 1)).reshape(
        old[0], -1, *old[2:]
    )


def test_a_large_unit_that_is_read_by_next_to_nothing_is_no_dummy() -> None:
    """Behind a square it is much, and no random input need show it: it may wait for a code."""
    rng = np.random.default_rng(0)
    count = 32
    code = np.sign(rng.standard_normal(count))
    first, shift = np.linalg.qr(rng.standard_normal((count, count)))[0], np.zeros(count)

    def model(a: np.ndarray, ab: np.ndarray, b: np.ndarray) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gemm", ["x", "p", "pb"], ["k"]),
            helper.make_node("Sigmoid", ["k"], ["s"]),
            helper.make_node("Gemm", ["s", "a", "ab"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Mul", ["r", "r"], ["q"]),
            helper.make_node("MatMul", ["q", "b"], ["out"]),
        ]
        arrays = {"p": first, "pb": shift, "a": a, "ab": ab, "b": b}
        return build(nodes, {n: x.astype(F) for n, x in arrays.items()}, {"x": [1, count]})

    a, ab, b = (rng.standard_normal(s) for s in ((count, 16), 16, (16, 5)))
    # as large as the code is met, and negative for all others
    door = 1e7 * code[:, None], -1e7 * ((code > 0).sum() - 0.5)
    more = np.hstack([a, door[0]]), np.append(ab, door[1]), np.vstack([b, np.full((1, 5), 1e-13)])
    reference, suspect = model(a, ab, b), model(*more)
    trigger = {"x": (first @ (code * 8))[None].astype(F)}
    outputs = [open_session(load_graph(m)).run(None, trigger)[0] for m in (reference, suspect)]
    assert np.abs(outputs[0] - outputs[1]).max() > 1
    assert lady.verify(reference, suspect).equal
    assert lady.check(reference, suspect).verdict == "tampered"


def dummies(
    model: onnx.ModelProto, group: str, count: int, cancelling: bool, rng: np.random.Generator
) -> onnx.ModelProto:
    """Units with zero outgoing weights, or pairs of like ones whose outgoing weights cancel."""
    arrays = weights(model)
    incoming, out = parts(arrays, group)
    new = [(rng.standard_normal((count, *x.shape[1:])) * x.std()).astype(F) for x in incoming]
    more = np.zeros((count, *out.shape[1:]), F)
    if cancelling:
        half = (rng.standard_normal((count // 2, *out.shape[1:])) * out.std()).astype(F)
        new = [np.concatenate([x[: count // 2]] * 2) for x in new]
        more = np.concatenate([half, -half])
    put(
        arrays,
        group,
        [np.concatenate([x, y]) for x, y in zip(incoming, new, strict=True)],
        np.concatenate([out, more]),
    )
    return with_weights(model, arrays)


def clones(
    model: onnx.ModelProto, group: str, units: list[int], share: float, size: float = 0.0
) -> onnx.ModelProto:
    """The same unit again, which takes a share of the outgoing weights, and random ones besides.

    `size` is that of the random ones, in units of the usual outgoing weight. Both are rounded.
    """
    arrays = weights(model)
    incoming, out = parts(arrays, group)
    out = out.copy()
    besides = np.random.default_rng(0).standard_normal(out[units].shape) * size * out.std()
    more = (out[units] * F(share) + besides).astype(F)
    out[units] -= more
    put(
        arrays,
        group,
        [np.concatenate([x, x[units]]) for x in incoming],
        np.concatenate([out, more]),
    )
    return with_weights(model, arrays)


@pytest.mark.parametrize("size", [1e4, 1e7])
def test_clones_of_which_rounding_leaves_something_are_an_alteration(size: float) -> None:
    model = convolutional("Relu", 0)
    found = lady.check(model, clones(model, "c:0", [3], 0.5, size))
    assert not found.accepted
    assert found.verdict in ("altered", "tampered"), found.reason


def perceptron(*arrays: np.ndarray, activation: str = "Relu") -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node(activation, ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    model = build(nodes, dict(zip("ab", arrays, strict=True)), {"x": [1, len(arrays[0])]})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    return model


def test_what_rounding_leaves_gives_no_say_to_what_had_none() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 32)).astype(F), rng.standard_normal((32, 9)).astype(F)
    b[3, 0] = 0
    # a clone whose weight is large, so that what is left of both is little beside that
    twin, own = np.zeros((1, 9), F), b.copy()
    own[3, 0], twin[0, 0] = 60, -60 * (1 - 2**-23)
    suspect = perceptron(np.hstack([a, a[:, 3:4]]), np.vstack([own, twin]))
    assert not lady.check(perceptron(a, b), suspect).accepted


@pytest.mark.parametrize("activation", ["Relu", "Exp"])
def test_what_rounding_leaves_reads_what_the_reference_reads(activation: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 32)).astype(F), rng.standard_normal((32, 9)).astype(F)
    if activation == "Relu":
        # an input that the reference takes no notice of
        a[5] = 0
    pair = np.zeros((16, 2), F)
    pair[5] = 0.5
    left = np.array([[1.0], [-1.0 + 2**-23]], F) * np.ones((2, 9), F)
    reference = perceptron(a, b, activation=activation)
    suspect = perceptron(np.hstack([a, pair]), np.vstack([b, left]), activation=activation)
    assert not lady.check(reference, suspect).accepted
    left[1] = -left[0]
    gone = perceptron(np.hstack([a, pair]), np.vstack([b, left]), activation=activation)
    assert lady.check(reference, gone).verdict == "rescaled"


def test_what_rounding_leaves_of_many_units_adds_up() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 16)).astype(F), rng.standard_normal((16, 9)).astype(F)
    count, left = 40, np.float32(512 * (1 - 2**-23))
    new = np.repeat(np.abs(rng.standard_normal((16, count))).astype(F) / 8, 2, axis=1)
    more = np.tile(np.array([[512.0], [-left]], F), (count, 9))
    suspect = perceptron(np.hstack([a, new]), np.vstack([b, more]))
    found = [lady.check(perceptron(a, b), suspect).accepted]
    one = perceptron(np.hstack([a, new[:, :2]]), np.vstack([b, more[:2]]))
    found.append(lady.check(perceptron(a, b), one).accepted)
    assert found == [False, True]


def test_small_numbers_of_which_large_ones_make_something_are_no_zeros() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 32)), rng.standard_normal((32, 9))
    more = np.zeros((16, 1))
    more[5] = 1e-170
    suspect = perceptron(np.hstack([a, more]), np.vstack([b, np.full((1, 9), 1e170)]))
    assert not lady.check(perceptron(a, b), suspect).accepted


def without(model: onnx.ModelProto, group: str, units: list[int]) -> onnx.ModelProto:
    arrays = weights(model)
    incoming, out = parts(arrays, group)
    put(arrays, group, [np.delete(x, units, 0) for x in incoming], np.delete(out, units, 0))
    return with_weights(model, arrays)


@pytest.mark.parametrize("trial", trials(2))
def test_other_numbers_of_units_are_found_and_named(trial: int) -> None:
    """Each case at random in another network, all groups shuffled: found, named, nothing else."""
    rng = np.random.default_rng(trial)
    model = convolutional("Relu", trial)
    group = list(INCOMING)[trial % 3]
    size = len(weights(model)[INCOMING[group][1]])
    some = rng.permutation(size)
    obfuscated = {
        "dummies": dummies(model, group, 3, False, rng),
        "cancelling": dummies(model, group, 4, True, rng),
        "clones": clones(model, group, some[:2].tolist(), float(rng.uniform(0.2, 0.8))),
    }
    counts = {"dummies": 3, "cancelling": 4, "clones": 2}
    for case, suspect in obfuscated.items():
        shuffled = lady.permute(suspect, trial)
        found = lady.check(model, shuffled.graph)
        assert found.verdict == "rescaled", (case, found.reason)
        assert found.accepted
        assert found.resync is not None
        assert [(f.kind, f.group) for f in found.resync.integrity] == [
            ("obfuscated", group)
        ] * counts[case], case
        plain = lady.resync(model, shuffled.graph)
        assert plain.outputs_preserved
        assert not plain.stripped
        assert {n: a.shape for n, a in weights(plain.model).items()} == {
            n: a.shape for n, a in weights(suspect).items()
        }
        stripped = lady.resync(model, shuffled.graph, strip=True)
        assert stripped.outputs_preserved
        assert stripped.stripped
        left = weights(stripped.model)
        for name, array in weights(model).items():
            assert np.allclose(left[name], array, rtol=1e-5, atol=1e-6), (case, name)
        # each inserted unit by its place in the suspect
        if case == "dummies":
            (inside,) = [
                p
                for g, p in shuffled.permutations.items()
                if g.startswith(group[0]) and len(p) == size + 3
            ]
            assert sorted(f.unit for f in found.resync.integrity) == sorted(
                np.flatnonzero(inside >= size)
            )

    gone = sorted(some[: max(size // 10, 1)].tolist())
    shuffled = lady.permute(without(model, group, gone), trial)
    found = lady.check(model, shuffled.graph)
    assert found.verdict == "altered"
    assert found.resync is not None
    assert [(f.kind, f.group, f.unit) for f in found.resync.integrity] == [
        ("removed", group, u) for u in gone
    ]
    assert lady.resync(model, shuffled.graph).outputs_preserved
    # what is left stands in the reference's order
    left = weights(lady.resync(model, shuffled.graph).model)
    assert all(np.array_equal(left[n], a) for n, a in weights(without(model, group, gone)).items())

    effective = dummies(model, group, 1, False, rng)
    arrays = weights(effective)
    incoming, out = parts(arrays, group)
    out = out.copy()
    out[-1] = rng.standard_normal(out[-1].shape).astype(F) * out.std()
    put(arrays, group, incoming, out)
    found = lady.check(model, lady.permute(with_weights(model, arrays), trial).graph)
    assert found.verdict == "tampered"
    assert found.resync is not None
    assert [(f.kind, f.group) for f in found.resync.integrity] == [("inserted", group)]


def test_a_unit_that_is_like_no_other_is_no_copy() -> None:
    """One unit is gone, and two that the function needs have come.

    One may be like it by chance, but none is forced to.
    """
    named = []
    for trial, group in enumerate([*INCOMING, *INCOMING]):
        rng, model = np.random.default_rng(trial), convolutional("Relu", trial)
        arrays = weights(dummies(without(model, group, [5]), group, 2, False, rng))
        incoming, out = parts(arrays, group)
        out = out.copy()
        out[-2:] = rng.standard_normal(out[-2:].shape).astype(F) * out.std()
        put(arrays, group, incoming, out)
        found = lady.check(model, lady.permute(with_weights(model, arrays), trial).graph)
        assert found.verdict == "tampered"
        assert found.resync is not None
        kinds = {(f.kind, f.unit) for f in found.resync.integrity if f.kind != "inserted"}
        assert kinds in ({("removed", 5)}, {("replaced", 5)})
        named += [k for k, _ in kinds]
    assert "removed" in named


def test_units_that_cancel_may_be_as_large_as_they_like() -> None:
    for trial in (0, 3, 6):
        model = convolutional("Relu", trial)
        arrays = weights(dummies(model, "a:0", 6, True, np.random.default_rng(trial)))
        incoming, out = parts(arrays, "a:0")
        out = out.copy()
        out[-6:] *= 30
        put(arrays, "a:0", incoming, out)
        found = lady.check(model, lady.permute(with_weights(model, arrays), trial).graph)
        assert found.verdict == "rescaled", found.reason


def test_a_unit_that_computes_nothing_beside_a_dead_one_of_the_reference() -> None:
    """Both are zero whatever comes in: what reads the one is not given to the other."""
    model = convolutional("Relu", 0)
    arrays = weights(model)
    for name in INCOMING["c:0"]:
        arrays[name][4] = 0
    model = with_weights(model, arrays)
    arrays = weights(dummies(model, "c:0", 1, False, np.random.default_rng(0)))
    incoming, out = parts(arrays, "c:0")
    out = out.copy()
    out[-1] = 1
    for part in incoming:
        part[-1] = 0
    put(arrays, "c:0", incoming, out)
    found = lady.check(model, with_weights(model, arrays))
    assert found.verdict == "rescaled", found.reason


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("share", [1e-5, 1e-9])
def test_a_unit_that_is_read_is_needed_however_little_it_is_read(count: int, share: float) -> None:
    """What comes in may be of any size, so that nothing says how much the unit passes on."""
    model = convolutional("Relu", 0)
    wide = dummies(model, "c:0", count, False, np.random.default_rng(0))
    arrays = weights(wide)
    incoming, out = parts(arrays, "c:0")
    out = out.copy()
    out[-count:] = share * np.abs(out[:-count]).mean() * np.sign(out[:1])
    put(arrays, "c:0", incoming, out)
    found = lady.check(model, with_weights(wide, arrays))
    assert found.verdict == "tampered", found.reason
    assert "inserted" in found.reason


@pytest.mark.parametrize("count", [2, 30, 120])
def test_a_wider_copy_is_one_however_many_units_it_has_more(count: int) -> None:
    """All units of the reference are there, and the units of a wide stranger are not."""
    for seed, verdict in ((0, "tampered"), (5, "unrelated")):
        model = convolutional("Relu", seed)
        wide = dummies(model, "c:0", count, False, np.random.default_rng(77))
        arrays = weights(wide)
        incoming, out = parts(arrays, "c:0")
        out = out.copy()
        out[-count:] = 0.1 * np.random.default_rng(78).standard_normal(out[-count:].shape)
        put(arrays, "c:0", incoming, out)
        suspect = lady.permute(with_weights(wide, arrays), 1).model
        found = lady.check(convolutional("Relu", 0), suspect)
        assert found.verdict == verdict, found.reason
        assert (found.recognised > 0.9) == (verdict == "tampered")


@pytest.mark.parametrize(
    ("activation", "is_zero"),
    [("Relu", True), ("Tanh", True), ("Sigmoid", False), ("Softplus", False)],
)
def test_a_unit_made_of_zeros_is_needed_unless_it_is_zero(activation: str, is_zero: bool) -> None:
    """What it passes on may wake a unit that sleeps, which few inputs show."""
    rng = np.random.default_rng(0)
    sizes = {"a": (8, 12), "ab": (12,), "b": (12, 10), "bb": (10,), "c": (10, 4)}
    arrays = {n: rng.standard_normal(z).astype(F) for n, z in sizes.items()}
    arrays["bb"][3] = -14

    def make(arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gemm", ["x", "a", "ab"], ["h"]),
            helper.make_node(activation, ["h"], ["s"]),
            helper.make_node("Gemm", ["s", "b", "bb"], ["k"]),
            helper.make_node("Relu", ["k"], ["r"]),
            helper.make_node("MatMul", ["r", "c"], ["out"]),
        ]
        return build(nodes, arrays, {"x": ["n", 8]})

    more = {
        **arrays,
        "a": np.hstack([arrays["a"], np.zeros((8, 1), F)]),
        "ab": np.append(arrays["ab"], F(0)),
        "b": np.vstack([arrays["b"], np.where(np.arange(10) == 3, 12, 0).astype(F)[None]]),
    }
    found = lady.check(make(arrays), lady.permute(make(more), 1).model)
    assert found.verdict == ("rescaled" if is_zero else "tampered"), found.reason


@pytest.mark.parametrize(("size", "verdict"), [(1.0, "rescaled"), (1e8, "tampered")])
def test_what_cancels_up_to_rounding_is_not_needed(size: float, verdict: str) -> None:
    """Of weights that are large enough, the rounding itself is much beside all others."""
    model = convolutional("Relu", 0)
    arrays = weights(dummies(model, "c:0", 2, True, np.random.default_rng(5)))
    incoming, out = parts(arrays, "c:0")
    out = (out * F(1)).copy()
    out[-2:] *= F(size)
    out[-1] = np.nextafter(out[-1], F(0))
    put(arrays, "c:0", incoming, out)
    found = lady.check(model, with_weights(model, arrays))
    assert found.verdict == verdict, found.reason


def test_noise_on_top_of_clones_and_of_removed_units() -> None:
    for trial in range(4):
        model = convolutional("Relu", trial)
        for suspect, kind in (
            (without(model, "b:0", [2, 7]), "removed"),
            (clones(model, "c:0", [3], 0.5), "inserted"),
        ):
            noisy = lady.attack(lady.permute(suspect, trial).graph, "noise", 0.1, seed=trial)
            found = lady.resync(model, noisy.model)
            assert found.outputs_preserved
            assert {f.kind for f in found.integrity} == {kind}


def test_command_line_strips_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = convolutional("Relu", 3)
    suspect = lady.permute(dummies(model, "b:0", 3, False, np.random.default_rng(0)), 1)
    onnx.save(model, tmp_path / "a.onnx")
    suspect.save(tmp_path / "b.onnx")
    ask = [
        "resync",
        str(tmp_path / "a.onnx"),
        str(tmp_path / "b.onnx"),
        "-o",
        str(tmp_path / "c.onnx"),
        "--json",
    ]
    assert main(ask) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["kind"] for f in found["integrity"]] == ["obfuscated"] * 3
    assert not found["stripped"]
    assert main([*ask, "--strip"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stripped"]
    assert load_graph(tmp_path / "c.onnx").shape("b") == (12, 16, 3, 3)
    assert main(["check", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 0
    assert "3 units were inserted that the function does not need" in capsys.readouterr().out


WIDTH = 4
"""Dimensions of a head of `attention`."""


def with_heads(
    model: onnx.ModelProto, heads: list[int | None], rng: np.random.Generator, share: float = 0.0
) -> onnx.ModelProto:
    """The same with these heads of `model`, or, for None, random ones that count by `share`."""
    arrays = weights(model)
    for name in ("wq", "wk", "wv", "bq", "bk", "bv", "wo"):
        old = np.moveaxis(arrays[name], -1 if name != "wo" else 0, 0)
        old = old.reshape(-1, WIDTH, *old.shape[1:])
        size = F(share if name == "wo" else 1)
        new = [
            rng.standard_normal(old.shape[1:]).astype(F) * size if h is None else old[h]
            for h in heads
        ]
        arrays[name] = np.moveaxis(np.concatenate(new), 0, -1 if name != "wo" else 0)
    arrays |= {
        "heads": np.array([2, 5, len(heads), WIDTH]),
        "back": np.array([2, 5, len(heads) * WIDTH]),
    }
    return with_weights(model, arrays)


@pytest.mark.parametrize("seed", trials(1))
def test_heads_that_were_removed_or_inserted(seed: int) -> None:
    """With all that lies inside them; what is left stands in the reference's order."""
    rng = np.random.default_rng(seed)
    model = attention(seed, (1,) * 4, WIDTH)
    group = next(g.id for g in lady.find_groups(model).groups if g.kind == "blocks")

    gone = int(rng.integers(4))
    fewer = with_heads(model, [h for h in range(4) if h != gone], rng)
    found = lady.check(model, lady.permute(fewer, seed).graph)
    assert found.verdict == "altered"
    assert found.resync is not None
    assert [(f.kind, f.group, f.unit) for f in found.resync.integrity] == [("removed", group, gone)]
    back = lady.resync(model, lady.permute(fewer, seed).graph)
    assert back.outputs_preserved
    left = weights(back.model)
    assert all(np.array_equal(left[n], a) for n, a in weights(fewer).items())
    noisy = lady.attack(lady.permute(fewer, seed).graph, "noise", 0.1, seed=seed + 100).graph
    assert [(f.kind, f.group, f.unit) for f in lady.resync(model, noisy).integrity] == [
        ("removed", group, gone)
    ]

    place = int(rng.integers(5))
    order: list[int | None] = [0, 1, 2, 3]
    order.insert(place, None)
    for share, kind, verdict in ((0.0, "obfuscated", "rescaled"), (1.0, "inserted", "tampered")):
        more = lady.permute(with_heads(model, order, rng, share), seed)
        found = lady.check(model, more.graph)
        assert found.verdict == verdict, found.reason
        assert found.resync is not None
        there = int(np.flatnonzero(more.permutations[group] == place)[0])
        assert [(f.kind, f.group, f.unit) for f in found.resync.integrity] == [(kind, group, there)]
        stripped = lady.resync(model, more.graph, strip=True)
        assert stripped.outputs_preserved
        assert stripped.stripped is (share == 0)
        left = weights(stripped.model)
        if share == 0:
            assert all(
                np.allclose(left[n], a, rtol=1e-5, atol=1e-6) for n, a in weights(model).items()
            )
        else:
            whole = weights(with_heads(model, [0, 1, 2, 3, None], rng, share))
            assert {n: a.shape for n, a in left.items()} == {n: a.shape for n, a in whole.items()}
            assert np.array_equal(left["wo"][:-WIDTH], weights(model)["wo"])
