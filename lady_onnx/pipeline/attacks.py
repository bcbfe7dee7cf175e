"""Attacks on a model's weights, seeded, on some weights or on all: noise, pruning, quantisation, factors.

Source: "Find the Lady" (AAAI 2024), Section "Robustness": noise of sigma times Omega, sigma the standard deviation of
the weight; the fraction T of the smallest magnitudes masked; B bits in place of 32; a neuron multiplied by k. Factors
that cancel: Yan et al. 2023 (neural structural obfuscation), arXiv 2205.00199.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from ..dataflow.engine import analyse_graph
from ..diagnosis.alterations import MAX_BITS, prune_array, quantize_array
from ..errors import LadyError, check_whole_number
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..groups.model import Symmetry
from ..numerics import is_float_array
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .permuting import Model

ATTACKS = ("noise", "prune", "quantize", "rescale", "scale")
NOTE = "attacked"


@dataclass(frozen=True)
class Attacked:
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
        return self.graph.to_model(NOTE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the altered model, whole or not at all."""
        self.graph.save(Path(path), NOTE)


def attack(
    model: Model, kind: str, strength: float, *, weights: Sequence[str] | None = None, seed: int = 0
) -> Attacked:
    """Alters the weights of a model.

    Args:
        model: a path or a model.
        kind: one of `ATTACKS`.
        strength: of noise its deviation, in units of each weight's own; of pruning the fraction of values that become
            zero, 0 to 1; of quantisation the bits, 2 to 16, of symmetric levels with one scale a weight; of rescaling the
            deviation of the logarithms of factors that leave the function as it is, on every unit that may have one;
            of scaling the factor, on one unit of one weight.
        weights: names of weights; by default all that a group touches, and one of them for scaling. Rescaling takes the
            groups that touch one of them.
        seed: of the noise, of the factors, and of which unit.

    Raises LadyError for an unknown weight, or a strength that the attack does not know.
    """
    graph = load_graph(model)
    if kind not in ATTACKS:
        raise LadyError(f"attack '{kind}': unknown; one of {', '.join(ATTACKS)}")
    fits = {
        "noise": strength >= 0,
        "prune": 0 <= strength <= 1,
        "quantize": strength in range(2, MAX_BITS + 1),
        "rescale": strength >= 0,
        "scale": np.isfinite(strength),
    }
    if not fits[kind]:
        wanted = {
            "prune": "a fraction, 0 to 1",
            "quantize": f"whole bits, 2 to {MAX_BITS}",
            "scale": "a number",
        }
        raise LadyError(
            f"attack {kind}: a strength of {strength:g} does not fit; give {wanted.get(kind, 'zero or more')}"
        )
    for name in weights or ():
        if name not in graph.tensors:
            raise LadyError(
                f"{graph.name}: no weight '{name}'; `lady-onnx groups --json` lists them"
            )
    check_whole_number("seed", seed)
    generator = np.random.default_rng(seed)
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    touched = sorted(
        {
            s.initializer
            for g in symmetry.groups
            for s in g.slots
            if is_float_array(graph.array(s.initializer))
        }
    )
    result = graph.copy()
    if kind == "rescale":
        chosen = [
            g
            for g in symmetry.groups
            if weights is None or any(s.initializer in weights for s in g.slots)
        ]
        changed: dict[str, np.ndarray] = {}
        for scaling in find_scalings(graph, analysis, symmetry.groups).values():
            if scaling.free and any(g.id == scaling.group for g in chosen):
                for name in scaling.names - changed.keys():
                    changed[name] = graph.array(name).copy()
                scaling.apply(changed, scaling.drawn(generator, strength))
    elif kind == "scale":
        names = touched if weights is None else [n for n in weights if n in touched]
        if not names:
            raise LadyError(
                f"{graph.name}: no unit to multiply; give a weight that `lady-onnx groups` lists"
            )
        drawn = names if weights is not None else [names[int(generator.integers(len(names)))]]
        changed = {n: _multiplied(graph.array(n), n, symmetry, strength, generator) for n in drawn}
    else:
        arrays = {n: graph.array(n) for n in (touched if weights is None else weights)}
        changed = {
            n: _altered(a, kind, strength, generator)
            for n, a in arrays.items()
            if is_float_array(a)
        }
    altered = [n for n, a in changed.items() if not np.array_equal(a, graph.array(n))]
    for name in altered:
        result.replace(name, changed[name])
    return Attacked(result, tuple(altered))


def _multiplied(
    array: np.ndarray, name: str, symmetry: Symmetry, factor: float, generator: np.random.Generator
) -> np.ndarray:
    """A weight with one of its units times a factor."""
    slots = [s for g in symmetry.groups for s in g.slots if s.initializer == name]
    slot = slots[int(generator.integers(len(slots)))]
    unit = int(generator.integers(len(slot.index)))
    result = array.copy()
    where = np.ix_(*slot.places(array.shape, unit))
    result[where] = (array[where].astype(np.float64) * factor).astype(array.dtype)
    return result


def _altered(
    array: np.ndarray, kind: str, strength: float, generator: np.random.Generator
) -> np.ndarray:
    if kind == "noise":
        wide = array.astype(np.float64)
        return (wide + strength * wide.std() * generator.standard_normal(array.shape)).astype(
            array.dtype
        )
    if kind == "prune":
        return prune_array(array, round(strength * array.size))
    return quantize_array(array, int(strength))
