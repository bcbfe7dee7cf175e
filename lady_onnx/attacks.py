"""The paper's attacks on a model's weights, seeded: noise, pruning and quantisation, on some weights or on all.

Source: "Find the Lady" (AAAI 2024), Section "Robustness": noise of sigma times Omega, sigma the standard deviation of
the weight; the fraction T of the smallest magnitudes masked; B bits in place of 32.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from .alterations import MOST_BITS, floating, prune, quantize
from .errors import LadyError
from .graph import Graph, load
from .permutation import Model, find_groups

KINDS = ("noise", "prune", "quantize")
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


def attack(model: Model, kind: str, strength: float, *, weights: Sequence[str] | None = None, seed: int = 0) -> Attacked:
    """Alters the weights of a model.

    Args:
        model: a path or a model.
        kind: `noise`, `prune` or `quantize`.
        strength: of noise its deviation, in units of each weight's own; of pruning the fraction of values that become
            zero, 0 to 1; of quantisation the bits, 2 to 16, of symmetric levels with one scale a weight.
        weights: names of weights; by default all that a group touches.
        seed: of the noise.

    Raises LadyError for an unknown weight, or a strength that the attack does not know.
    """
    graph = load(model)
    if kind not in KINDS:
        raise LadyError(f"attack '{kind}': unknown; one of {', '.join(KINDS)}")
    fits = {"noise": strength >= 0, "prune": 0 <= strength <= 1, "quantize": strength in range(2, MOST_BITS + 1)}
    if not fits[kind]:
        wanted = {"noise": "zero or more", "prune": "a fraction, 0 to 1", "quantize": f"whole bits, 2 to {MOST_BITS}"}
        raise LadyError(f"attack {kind}: a strength of {strength:g} does not fit; give {wanted[kind]}")
    if weights is None:
        weights = sorted({s.initializer for g in find_groups(graph).groups for s in g.slots})
    result = graph.copy()
    generator = np.random.default_rng(seed)
    altered = []
    for name in weights:
        if name not in graph.tensors:
            raise LadyError(f"{graph.name}: no weight '{name}'; `lady-onnx groups --json` lists them")
        array = graph.array(name)
        if floating(array):
            result.replace(name, _altered(array, kind, strength, generator))
            altered.append(name)
    return Attacked(result, tuple(altered))


def _altered(array: np.ndarray, kind: str, strength: float, generator: np.random.Generator) -> np.ndarray:
    if kind == "noise":
        wide = array.astype(np.float64)
        return (wide + strength * wide.std() * generator.standard_normal(array.shape)).astype(array.dtype)
    if kind == "prune":
        return prune(array, round(strength * array.size))
    return quantize(array, int(strength))
