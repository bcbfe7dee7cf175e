"""The attacks, and what is read off the weights that they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.diagnosis import alterations
from lady_onnx.diagnosis.alterations import (
    explain_alterations,
)
from lady_onnx.diagnosis.pruning import prune_array
from lady_onnx.diagnosis.quantisation import quantize_array
from lady_onnx.diagnosis.tolerances import measure_noise
from lady_onnx.graph.loading import load_graph

from ..helpers.law import examples
from ..helpers.networks import perceptron, weights, with_weights

SHAPES = st.sampled_from([(6,), (30, 7), (16, 8, 3, 3), (64, 64)])
F = np.float32
DONE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cast": lambda a: a.astype(np.float16).astype(F),
    "scaled": lambda a: (a * 0.37).astype(F),
    "clipped": lambda a: np.clip(a, -0.5, 0.4),
    "pruned": lambda a: prune_array(a, a.size // 2),
    **{f"quantized {b}": lambda a, b=b: quantize_array(a, b) for b in (2, 3, 8, 16)},
    "quantized 4 per row": lambda a: quantize_array(a, 4, 0),
    "quantized 4 affine": lambda a: quantize_array(a, 4, -1, symmetric=False),
    "pruned quantized 4": lambda a: quantize_array(prune_array(a, int(0.7 * a.size)), 4),
}


@examples(80)
@given(SHAPES, st.sampled_from(sorted(DONE)), st.integers(0, 1000))
def test_what_was_done_is_read_off_the_values_whatever_their_order(
    shape: tuple[int, ...], how: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(F)
    # a single value that was cut off could as well have been replaced
    assume(how != "clipped" or (array > 0.4).sum() > 1)
    order = rng.permutation(shape[0])
    suspect = DONE[how](array)
    found, done = explain_alterations(array, suspect[order])
    # the reference's weight, altered in the same way, bit for bit
    assert np.array_equal(np.sort(found, axis=None), np.sort(suspect, axis=None))
    assert np.abs(found - suspect).max() <= 1e-5 * np.abs(suspect).max()
    if array.size > 100:
        assert {a.kind for a in done} == {
            word for word in how.split() if word.isalpha() and word.endswith("d")
        } | ({"cast"} if how == "cast" else set())
        bits = [int(word) for word in how.split() if word.isdecimal()]
        assert [a.parameters["bits"] for a in done if a.kind == "quantized"] == bits


def test_the_layout_of_a_weight_in_memory_says_nothing() -> None:
    array = np.random.default_rng(0).standard_normal((30, 7)).astype(F)
    suspect = quantize_array(array, 4)
    found, done = explain_alterations(np.asfortranarray(array), suspect[::-1])
    assert [a.kind for a in done] == ["quantized"]
    assert np.array_equal(found, suspect)


def test_zeros_that_noise_left_by_chance_are_no_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large weights a few are. To sort these for each would take most of the time and memory."""
    rng = np.random.default_rng(0)
    ours = rng.standard_normal((1000, 400)).astype(np.float32)
    theirs = ours + np.float32(0.1) * rng.standard_normal(ours.shape, np.float32)
    theirs[0, :3] = 0
    monkeypatch.setattr(alterations, "_fit_values", lambda *_: pytest.fail("all were sorted"))
    assert explain_alterations(ours, theirs)[1] == ()


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("how", ["alone", "scaled", "cast", "quantized", "clipped"])
def test_pruning_of_a_few_numbers_is_explained(count: int, how: str) -> None:
    """Zeros that few others differ by are no tampering, whatever was done besides."""
    array = np.random.default_rng(0).standard_normal((1000, 400)).astype(F)
    suspect = prune_array(array, count)
    if how == "scaled":
        suspect *= F(1.3)
    elif how == "cast":
        suspect = suspect.astype(np.float16).astype(F)
    elif how == "quantized":
        suspect = quantize_array(suspect, 8)
    elif how == "clipped":
        suspect = np.clip(suspect, -1, 1)
    found, done = explain_alterations(array, suspect[::-1])
    assert np.array_equal(np.sort(found, axis=None), np.sort(suspect, axis=None))
    kinds = {a.kind for a in done}
    # zeros so few may lie within the rounding of the rest
    assert kinds == {"pruned"} if how == "alone" else kinds - {"pruned"} == {how}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, F, np.float64])
def test_clipped_weights_keep_their_type(dtype: np.dtype) -> None:
    array = np.random.default_rng(0).standard_normal((30, 7)).astype(dtype)
    suspect = np.clip(array, -1, 1).astype(dtype)
    found, done = explain_alterations(array, suspect[::-1])
    assert [a.kind for a in done] == ["clipped"]
    assert found.dtype == dtype
    assert np.array_equal(found, suspect)


@examples(20)
@given(SHAPES, st.integers(0, 1000))
def test_noise_and_other_weights_are_not_explained(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(F)
    for other in (
        array + 0.1 * rng.standard_normal(shape).astype(F),
        rng.standard_normal(shape).astype(F),
        array[::-1],
    ):
        found, done = explain_alterations(array, other)
        assert found is array
        assert done == ()
    assert measure_noise(array, array + array.std() / 2) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "strength"), [("noise", "0.5"), ("prune", "0.9"), ("quantize", "4")]
)
def test_attacks_are_seeded_and_found(
    kind: str, strength: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = perceptron((6, 40, 30))
    onnx.save(model, tmp_path / "m.onnx")
    out = [tmp_path / f"{n}.onnx" for n in "ab"]
    for path in out:
        assert (
            main(
                [
                    "attack",
                    kind,
                    str(tmp_path / "m.onnx"),
                    "-o",
                    str(path),
                    "--strength",
                    strength,
                    "--seed",
                    "3",
                ]
            )
            == 0
        )
    assert out[0].read_bytes() == out[1].read_bytes()
    found = lady.resync(tmp_path / "m.onnx", lady.permute(out[0], 1).graph)
    assert found.outputs_preserved
    kinds = {a.kind for done in found.alterations.values() for a in done}
    assert kinds == {{"noise": "noise", "prune": "pruned", "quantize": "quantized"}[kind]}
    assert found.psi_estimate > 99
    words = {
        "noise": "noise, level 0.",
        "prune": "pruned, sparsity 0.9",
        "quantize": "quantized, bits 4 (",
    }
    assert words[kind] in lady.check(tmp_path / "m.onnx", out[0]).reason
    assert "weights" in capsys.readouterr().out


def test_one_weight_alone_is_attacked() -> None:
    model = perceptron((6, 40, 30))
    name = next(t.name for t in model.graph.initializer if len(t.dims) == 2)
    result = lady.attack(model, "noise", 1.0, weights=[name])
    assert result.weights == (name,)
    changed = [
        n
        for n in load_graph(model).tensors
        if not np.array_equal(load_graph(model).array(n), result.graph.array(n))
    ]
    assert changed == [name]


@pytest.mark.parametrize(
    ("kind", "strength", "weights", "message"),
    [
        ("prune", 1.5, None, "a fraction, 0 to 1"),
        ("quantize", 2.5, None, "whole bits"),
        ("noise", -1.0, None, "zero or more"),
        ("melt", 1.0, None, "one of noise, prune, quantize, rescale, scale"),
        ("noise", 1.0, ["nowhere"], "no weight 'nowhere'"),
        ("scale", float("nan"), None, "a number"),
    ],
)
def test_bad_attacks(kind: str, strength: float, weights: list[str] | None, message: str) -> None:
    with pytest.raises(lady.LadyError, match=message):
        lady.attack(perceptron((6, 40, 30)), kind, strength, weights=weights)


def test_factors_that_cancel_and_one_that_does_not(tmp_path: Path) -> None:
    model = perceptron((6, 40, 30))
    onnx.save(model, tmp_path / "m.onnx")
    for kind, strength, verdict, code in (
        ("rescale", "0.5", "rescaled", 0),
        ("scale", "1.5", "tampered", 1),
    ):
        out = tmp_path / f"{kind}.onnx"
        assert (
            main(
                [
                    "attack",
                    kind,
                    str(tmp_path / "m.onnx"),
                    "-o",
                    str(out),
                    "--strength",
                    strength,
                    "--seed",
                    "1",
                ]
            )
            == 0
        )
        assert lady.check(tmp_path / "m.onnx", out).verdict == verdict
        assert lady.verify(tmp_path / "m.onnx", out).equal == (kind == "rescale")
        assert main(["check", str(tmp_path / "m.onnx"), str(out)]) == code
    (tampered,) = lady.check(tmp_path / "m.onnx", out).resync.integrity
    assert tampered.factor == pytest.approx(1.5, rel=1e-5)
    assert main(["resync", str(tmp_path / "m.onnx"), str(out), "-o", str(tmp_path / "r.onnx")]) == 1
    assert (
        main(
            [
                "resync",
                str(tmp_path / "m.onnx"),
                str(out),
                "-o",
                str(tmp_path / "r.onnx"),
                "--repair",
            ]
        )
        == 1
    )
    assert lady.check(tmp_path / "m.onnx", tmp_path / "r.onnx").verdict == "identical"


@pytest.mark.parametrize("least", [0.0, 0.7])
def test_a_factor_of_binary_and_ternary_weights_is_no_clipping(least: float) -> None:
    model = perceptron((12, 30, 20))
    plain = {
        n: (np.sign(a) * (np.abs(a) > least)).astype(F) if a.ndim > 1 else a
        for n, a in weights(model).items()
    }
    half = F(0.5)
    changed = {
        **plain,
        "w0": plain["w0"] * half,
        "b0": plain["b0"] * half,
        "w1": plain["w1"] / half,
    }
    _, done = explain_alterations(plain["w0"], changed["w0"])
    assert [(a.kind, a.parameters) for a in done] == [("scaled", {"factor": 0.5})]
    models = [with_weights(model, arrays) for arrays in (plain, changed)]
    assert lady.check(*models).verdict == "rescaled"


def test_a_weight_of_which_nothing_is_left() -> None:
    found, done = explain_alterations(np.arange(1, 7, dtype=F), np.zeros(6, F))
    assert not found.any()
    assert [a.kind for a in done] == ["pruned"]
