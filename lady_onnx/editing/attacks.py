"""Attacks on a model's weights, seeded, on some weights or on all: noise, pruning, factors.

Sources: "Find the Lady" (AAAI 2024), Section "Robustness": noise of sigma times Omega, sigma the
standard deviation of the weight; the fraction T of the smallest magnitudes masked; B bits in place
of 32; a neuron multiplied by k. Factors that cancel: Yan et al. 2023 (neural structural
obfuscation), arXiv 2205.00199.

Training on needs PyTorch and is in `lady_onnx.converters.pytorch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ..dataflow.engine import Analysis, analyse_graph
from ..diagnosis.pruning import prune_array
from ..diagnosis.quantisation import MAX_BITS, quantize_array
from ..errors import (
    LadyError,
    UnknownNameError,
    check_whole_number,
    suggest_name,
)
from ..graph.loading import Model, load_graph
from ..graph.model import Graph
from ..groups.model import Symmetry
from ..groups.permutations import Arrays
from ..numerics import is_float_array
from ..reporting import Report
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups

ATTACKED_NOTE = "attacked"
"""What the metadata of an altered model say was done to it."""


@dataclass(frozen=True, repr=False)
class Attacked(Report):
    """A model with altered weights.

    Attributes:
        graph: the altered model.
        weights: the names of the weights that were altered.
    """

    graph: Graph
    weights: tuple[str, ...]

    @property
    def model(self) -> ModelProto:
        """The altered model."""
        return self.graph.to_model(ATTACKED_NOTE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the altered model, whole or not at all."""
        self.graph.save(Path(path), ATTACKED_NOTE)

    def headline(self) -> str:
        """Say in one line how many weights were altered."""
        were = "weight was" if len(self.weights) == 1 else "weights were"
        return f"{len(self.weights)} {were} altered"

    def details(self, limit: int | None = None) -> list[str]:
        """List the weights that were altered."""
        return list(self.weights[:limit])

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {"weights": self.weights}


@dataclass(frozen=True)
class _Target:
    """What is attacked.

    Attributes:
        graph: the model.
        analysis: what is known of its order.
        symmetry: its groups.
        touched: the names of the weights of floats that a group touches, sorted.
        wanted: the names of the weights to alter, None for all that are touched.
    """

    graph: Graph
    analysis: Analysis
    symmetry: Symmetry
    touched: Sequence[str]
    wanted: Sequence[str] | None


@dataclass(frozen=True)
class _Attack:
    """One kind of attack.

    Attributes:
        is_allowed: tells whether a strength fits.
        range: the strengths that fit, in words.
        run: returns the altered weights, for a strength and a generator of random numbers.
    """

    is_allowed: Callable[[float], bool]
    range: str
    run: Callable[[_Target, float, np.random.Generator], Arrays]


def attack(
    model: Model, kind: str, strength: float, *, weights: Sequence[str] | None = None, seed: int = 0
) -> Attacked:
    """Alter the weights of a model.

    Args:
        model: a path or a model.
        kind: one of `ATTACKS`.
        strength: of noise, its standard deviation in units of each weight's own; of pruning, the
            fraction of values that become zero, 0 to 1; of quantisation, the bits, 2 to 16, of
            symmetric levels with one scale a weight; of rescaling, the standard deviation of the
            logarithms of factors that leave the function as it is, on every unit that may have one;
            of scaling, the factor, on one unit of one weight.
        weights: names of weights; by default all that a group touches, and one of them for scaling.
            Rescaling takes the groups that touch one of them.
        seed: the seed of the noise, of the factors, and of the choice of a unit.

    Returns:
        The model with its altered weights.

    Raises:
        LadyError: a weight is unknown, or the kind or its strength is.
    """
    graph = load_graph(model)
    if kind not in _ATTACK_OF_KIND:
        raise LadyError(f"attack '{kind}': unknown; one of {', '.join(ATTACKS)}")
    chosen = _ATTACK_OF_KIND[kind]
    if not chosen.is_allowed(strength):
        what = f"a strength of {strength:g} does not fit; give {chosen.range}"
        raise LadyError(f"attack {kind}: {what}")
    for name in weights or ():
        if name not in graph.tensors:
            known = f"{suggest_name(name, graph.tensors)}`lady-onnx groups --json` lists them"
            raise UnknownNameError(f"{graph.name}: no weight '{name}'; {known}")
    check_whole_number("seed", seed)
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    target = _Target(graph, analysis, symmetry, _list_touched(graph, symmetry), weights)
    changed = chosen.run(target, strength, np.random.default_rng(seed))
    altered = [n for n, array in changed.items() if not np.array_equal(array, graph.array(n))]
    result = graph.copy()
    for name in altered:
        result.replace(name, changed[name])
    return Attacked(result, tuple(altered))


def _list_touched(graph: Graph, symmetry: Symmetry) -> list[str]:
    """Return the names of the weights of floats that a group touches, sorted."""
    names = {slot.initializer for group in symmetry.groups for slot in group.slots}
    return sorted(name for name in names if is_float_array(graph.array(name)))


def _alter_each(
    change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray],
) -> Callable[[_Target, float, np.random.Generator], Arrays]:
    """Return an attack that changes every weight of floats by itself."""

    def run(target: _Target, strength: float, generator: np.random.Generator) -> Arrays:
        names = target.touched if target.wanted is None else target.wanted
        arrays = {name: target.graph.array(name) for name in names}
        return {
            name: change(array, strength, generator)
            for name, array in arrays.items()
            if is_float_array(array)
        }

    return run


def _add_noise(array: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    """Add normal noise, of `level` standard deviations of the array's own values."""
    # In double precision, so that the result is rounded once.
    wide = array.astype(np.float64)
    noise = level * wide.std() * generator.standard_normal(array.shape)
    return (wide + noise).astype(array.dtype)


def _prune_values(array: np.ndarray, sparsity: float, generator: np.random.Generator) -> np.ndarray:
    """Set a fraction of the values, the smallest, to zero."""
    return prune_array(array, round(sparsity * array.size))


def _quantize_values(array: np.ndarray, bits: float, generator: np.random.Generator) -> np.ndarray:
    """Round values to symmetric levels of one scale."""
    return quantize_array(array, int(bits))


def _rescale_units(target: _Target, spread: float, generator: np.random.Generator) -> Arrays:
    """Multiply every unit that may have a factor, so that the factors cancel."""
    chosen = {
        group.id
        for group in target.symmetry.groups
        if target.wanted is None or any(s.initializer in target.wanted for s in group.slots)
    }
    changed: dict[str, np.ndarray] = {}
    scalings = find_scalings(target.graph, target.analysis, target.symmetry.groups)
    # Factors are applied in place, and several groups may meet in one weight: each weight is copied
    # once, by the first group that touches it.
    for scaling in scalings.values():
        if scaling.free and scaling.group in chosen:
            for name in sorted(scaling.names - changed.keys()):
                changed[name] = target.graph.array(name).copy()
            scaling.apply(changed, scaling.drawn(generator, spread))
    return changed


def _scale_units(target: _Target, factor: float, generator: np.random.Generator) -> Arrays:
    """Multiply one unit of one weight, or one unit of each wanted weight, by a factor."""
    wanted = target.wanted
    names = target.touched if wanted is None else [n for n in wanted if n in target.touched]
    if not names:
        what = "no unit to multiply; give a weight that `lady-onnx groups` lists"
        raise LadyError(f"{target.graph.name}: {what}")
    if wanted is None:
        names = [names[int(generator.integers(len(names)))]]
    return {name: _scale_unit(target, name, factor, generator) for name in names}


def _scale_unit(
    target: _Target, name: str, factor: float, generator: np.random.Generator
) -> np.ndarray:
    """Return a weight with one of its units, drawn at random, times a factor."""
    array = target.graph.array(name)
    slots = [s for g in target.symmetry.groups for s in g.slots if s.initializer == name]
    slot = slots[int(generator.integers(len(slots)))]
    unit = int(generator.integers(len(slot.index)))
    result = array.copy()
    where = np.ix_(*slot.places(array.shape, unit))
    result[where] = (array[where].astype(np.float64) * factor).astype(array.dtype)
    return result


_ATTACK_OF_KIND = {
    "noise": _Attack(lambda level: level >= 0, "zero or more", _alter_each(_add_noise)),
    "prune": _Attack(
        lambda sparsity: 0 <= sparsity <= 1, "a fraction, 0 to 1", _alter_each(_prune_values)
    ),
    "quantize": _Attack(
        lambda bits: bits in range(2, MAX_BITS + 1),
        f"whole bits, 2 to {MAX_BITS}",
        _alter_each(_quantize_values),
    ),
    "rescale": _Attack(lambda spread: spread >= 0, "zero or more", _rescale_units),
    "scale": _Attack(lambda factor: bool(np.isfinite(factor)), "a number", _scale_units),
}

ATTACKS = tuple(_ATTACK_OF_KIND)
"""The kinds of attack."""
