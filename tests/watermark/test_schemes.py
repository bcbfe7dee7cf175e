"""Ways to write bits into weights: what is written is read, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from lady_onnx.errors import LadyError
from lady_onnx.watermark.schemes.interface import SCHEMES, Layer, find_scheme
from lady_onnx.watermark.schemes.uchida import find_least_change
from lady_onnx.watermark.secrets.keys import Key

from ..helpers.law import examples

BITS = 96
SHAPES = {"conv": (24, 32, 3, 3), "deep": (64, 1, 3, 3), "dense": (96, 240), "half": (60, 70)}


def make_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of several kinds: of heavy tails, of rows of many sizes, and of half precision."""
    rng = np.random.default_rng(seed)
    arrays = {n: rng.standard_t(4, shape) for n, shape in SHAPES.items()}
    arrays["conv"] *= np.exp(rng.standard_normal((24, 1, 1, 1)))
    types = {"half": np.float16}
    return {n: (a / 30).astype(types.get(n, np.float32)) for n, a in arrays.items()}


LAYERS = [Layer(name, shape, 0) for name, shape in SHAPES.items()]


def make_keys(seed: int):
    return Key(bytes([seed]) * 32).derive_layer_key


def prepare(name: str, seed: int = 0):
    """A scheme, its weights and layers, and bits to write."""
    scheme, weights = find_scheme(name), make_weights(seed)
    layers = scheme.choose_layers(weights, LAYERS, BITS)
    bits = np.random.default_rng(seed + 1).integers(0, 2, BITS).astype(bool)
    return scheme, weights, layers, bits


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_written_is_read(name: str) -> None:
    scheme, weights, layers, bits = prepare(name)
    assert layers
    changed = scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)
    soft = scheme.read({**weights, **changed}, layers, make_keys(1), BITS)
    assert ((soft > 0) == bits).all()
    for n, array in changed.items():
        assert array.dtype == weights[n].dtype
        assert array.shape == weights[n].shape
        assert np.isfinite(array).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_erased_is_read_as_nothing(name: str) -> None:
    """Little else changes: the weights are still those of the model."""
    scheme, weights, layers, bits = prepare(name)
    marked = {**weights, **scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)}
    erased = {**marked, **scheme.erase(marked, layers, make_keys(1), BITS)}
    assert np.abs(scheme.read(erased, layers, make_keys(1), BITS)).max() < 0.1
    apart = sum(float(np.square(erased[n].astype(float) - marked[n]).sum()) for n in erased)
    whole = sum(float(np.square(marked[n].astype(float)).sum()) for n in erased)
    assert (apart / whole) ** 0.5 < 0.4


@pytest.mark.parametrize("name", SCHEMES)
def test_nothing_is_changed_in_place(name: str) -> None:
    scheme, weights, layers, bits = prepare(name)
    before = {n: a.copy() for n, a in weights.items()}
    scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)
    assert all(np.array_equal(weights[n], before[n]) for n in weights)


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_read_without_a_mark_is_normal(name: str) -> None:
    """Over many keys it has the mean 0 and the deviation 1, and the sum over bits is normal."""
    scheme, weights, layers, bits = prepare(name)
    signs = np.where(bits, 1.0, -1.0)
    soft = np.array([scheme.read(weights, layers, make_keys(k), BITS) for k in range(200)])
    assert abs(soft.mean()) < 0.03
    assert abs(soft.std() - 1) < 0.1
    sums = soft @ signs / np.linalg.norm(soft, axis=1)
    assert stats.kstest(sums, "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", SCHEMES)
def test_another_key_reads_nothing(name: str) -> None:
    scheme, weights, layers, bits = prepare(name)
    changed = scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)
    soft = scheme.read({**weights, **changed}, layers, make_keys(2), BITS)
    assert 0.25 < ((soft > 0) != bits).mean() < 0.75


def _add_noise(array: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    return array + 0.1 * array.std() * rng.standard_normal(array.shape)


def _prune(array: np.ndarray) -> np.ndarray:
    return np.where(np.abs(array) < np.median(np.abs(array)), 0, array)


def _quantise(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).max() / 127
    return np.rint(array / step) * step


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("attack", [_add_noise, _prune, _quantise, partial(np.asarray, dtype="f2")])
def test_usual_alterations_leave_the_bits(name: str, attack) -> None:
    scheme, weights, layers, bits = prepare(name)
    changed = {**weights, **scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)}
    altered = {n: attack(a.astype(np.float32)) for n, a in changed.items()}
    soft = scheme.read(altered, layers, make_keys(1), BITS)
    assert ((soft > 0) != bits).mean() <= 0.02


@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_not_known_is_left_out(name: str) -> None:
    """Layers that lack, and elements that are NaN or infinite, say nothing."""
    scheme, weights, layers, bits = prepare(name)
    changed = {**weights, **scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)}
    assert (scheme.read({}, layers, make_keys(1), BITS) == 0).all()
    rng = np.random.default_rng(6)
    for odd in (np.nan, np.inf):
        holes = {
            n: np.where(rng.random(a.shape) < 0.05, odd, a.astype(np.float32))
            for n, a in changed.items()
        }
        soft = scheme.read(holes, layers, make_keys(1), BITS)
        assert np.isfinite(soft).all()
        assert ((soft > 0) != bits).mean() <= 0.02


@pytest.mark.parametrize("name", SCHEMES)
def test_a_mark_moves_weights_by_little(name: str) -> None:
    """The layers are small: an element in twenty holds a bit of the schemes that replace some."""
    scheme, weights, layers, bits = prepare(name)
    changed = scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)
    apart = sum(float(np.square(changed[n].astype(float) - weights[n]).sum()) for n in changed)
    whole = sum(float(np.square(weights[n].astype(float)).sum()) for n in changed)
    assert (apart / whole) ** 0.5 < 0.4


@pytest.mark.parametrize("name", SCHEMES)
def test_layers_are_not_chosen_beyond_their_room(name: str) -> None:
    scheme, weights = find_scheme(name), make_weights()
    room = scheme.count_bits(LAYERS)
    assert scheme.choose_layers(weights, LAYERS, room)
    assert scheme.choose_layers(weights, LAYERS, room + 1) == []
    assert scheme.choose_layers(weights, [], 1) == []


def test_few_huge_elements_do_not_outweigh_all_others() -> None:
    """Twenty are 300 times as large: bits are written with changes that are no larger."""
    scheme, weights, layers, bits = prepare("spread")
    sizes = []
    for factor in (1, 300):
        arrays = {n: a.copy() for n, a in weights.items()}
        arrays["dense"].reshape(-1)[::1152] *= factor
        changed = scheme.embed(arrays, layers, make_keys(1), bits, scheme.strength)
        soft = scheme.read({**arrays, **changed}, layers, make_keys(1), BITS)
        assert ((soft > 0) == bits).all()
        moved = changed["conv"].astype(float) - arrays["conv"]
        sizes.append(float(np.linalg.norm(moved)))
    assert sizes[1] < 1.3 * sizes[0]


def test_layers_with_larger_gains_move_more_up_to_a_limit() -> None:
    """A layer that does not matter at all does not become all mark."""
    scheme, weights, layers, bits = prepare("spread")
    moved = {}
    for gain in (1.0, 5.0, 1e9):
        own = [replace(n, gain=gain if n.name == "half" else 1.0) for n in layers]
        changed = {**weights, **scheme.embed(weights, own, make_keys(1), bits, 1.0)}
        assert ((scheme.read(changed, layers, make_keys(1), BITS) > 0) == bits).all()
        apart = changed["half"].astype(float) - weights["half"]
        moved[gain] = float(np.linalg.norm(apart) / np.linalg.norm(weights["half"]))
    assert moved[1.0] < moved[5.0] < moved[1e9] < 0.45


def test_uchida_reads_any_order_of_its_own_units() -> None:
    scheme, weights, layers, bits = prepare("uchida")
    changed = scheme.embed(weights, layers, make_keys(1), bits, scheme.strength)
    (layer,) = layers
    rng = np.random.default_rng(7)
    own = changed[layer.name][rng.permutation(layer.shape[0])]
    before = changed[layer.name][:, rng.permutation(layer.shape[1])]
    read = [scheme.read({layer.name: a}, layers, make_keys(1), BITS) > 0 for a in (own, before)]
    assert (read[0] == bits).all()
    assert 0.2 < (read[1] != bits).mean() < 0.8


def test_a_scheme_is_told_by_its_name() -> None:
    with pytest.raises(LadyError, match="scheme is one of spread, uchida"):
        find_scheme("other")


@examples(30)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(12, 30))
def test_the_least_change_is_that_of_scipy(seed: int, rows: int, elements: int) -> None:
    """Hildreth's procedure beside a general solver, on the same problem."""
    rng = np.random.default_rng(seed)
    matrix, missing = rng.standard_normal((rows, elements)), 3 * rng.standard_normal(rows)
    found = find_least_change(matrix, missing)
    assert (matrix @ found >= missing - 0.01 * np.abs(missing).max()).all()
    oracle = optimize.minimize(
        lambda v: v @ v / 2,
        np.zeros(elements),
        jac=lambda v: v,
        constraints={
            "type": "ineq",
            "fun": lambda v: matrix @ v - missing,
            "jac": lambda v: matrix,
        },
        method="SLSQP",
        options={"maxiter": 500},
    )
    assert np.linalg.norm(found) <= 1.02 * np.linalg.norm(oracle.x) + 1e-6
