"""In which directions the inputs of layers vary little: a mark that lies along them costs least.

What a layer computes changes by the change of its weights times its inputs. Where the second
moments of these are known, the change that costs least for what it writes is that of the plain way
times the inverse of the moments. Few samples make directions look empty that are not, so that a
ridge is added to them, the one that is best on samples that were left aside.

Source: Hassibi and Stork 1993, Second order derivatives for network pruning: Optimal Brain Surgeon;
layer by layer as by Frantar and Alistarh 2022, Optimal Brain Compression.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from ..dataflow.engine import Analysis
from ..dataflow.labels.equations import plan_equation
from ..graph.model import Graph
from ..rules import Equation, Kind
from .schemes.interface import Directions

RIDGES = np.logspace(-4, 2, 13)
"""The ridges that are tried, in units of the mean moment."""
MIN_DIRECTIONS_SHARE = 0.25
"""At least this share of all directions bears the mark, by their participation ratio.

Inputs of mean zero leave one direction empty, and inputs that are always zero some. A mark in these
alone would be huge, and whoever tidies up would take it out.
"""
MAX_INPUTS = 4096
"""Layers of more inputs are left as they are: their moments would fill the memory."""
MIN_SAVING = 0.05
"""Directions that save less than this share of what a mark costs are not worth their time."""


@dataclass(frozen=True)
class LayerInputs:
    """What a layer multiplies with its weight.

    Attributes:
        value: the tensor that it reads.
        axis: the axis of this tensor that it sums over.
        weight_axis: the axis of the weight that it sums over.
    """

    value: str
    axis: int
    weight_axis: int


@dataclass(frozen=True)
class Moments:
    """The second moments of a layer's inputs: sums of products, float32 [inputs, inputs].

    Attributes:
        own: of the samples that directions are made from.
        other: of the samples that were left aside.
    """

    own: np.ndarray
    other: np.ndarray


def find_inputs(graph: Graph, analysis: Analysis, names: Collection[str]) -> dict[str, LayerInputs]:
    """Find what layers multiply with their weights.

    Args:
        graph: the model.
        analysis: its analysis.
        names: the weights of the layers.

    Returns:
        The inputs by weight. A weight that several nodes read in several ways is not among them,
        nor one of too many inputs, nor one of which they are not known.
    """
    given = {v.name for v in graph.required_inputs}
    given |= {made for node in graph.nodes for made in node.output}
    found: dict[str, set[LayerInputs | None]] = {}
    for node, kind in analysis.steps:
        for operand, name in enumerate(node.input):
            if name in names:
                one = _find_own_inputs(node, kind, operand, analysis)
                is_there = one is not None and one.value in given
                found.setdefault(name, set()).add(one if is_there else None)
    single = {name: next(iter(ways)) for name, ways in found.items() if len(ways) == 1}
    return {
        name: way
        for name, way in single.items()
        if way is not None and graph.shape(name)[way.weight_axis] <= MAX_INPUTS
    }


def _find_own_inputs(
    node: NodeProto, kind: Kind | None, operand: int, analysis: Analysis
) -> LayerInputs | None:
    """Find what a node multiplies with one of its operands; None where that is not known."""
    tensors = [analysis.tensors.get(name) for name in node.input]
    if not isinstance(kind, Equation) or any(
        tensor is None for name, tensor in zip(node.input, tensors, strict=True) if name
    ):
        return None
    ranks = tuple(None if t is None or t.shape is None else len(t.shape) for t in tensors)
    how = plan_equation(kind.text, ranks)
    if operand >= len(how.sides):
        return None
    summed = [
        (side, axis)
        for side, terms in enumerate(how.sides)
        for axis, term in enumerate(terms)
        if how.gone & set(term.names)
        # each of several groups of channels has inputs of its own
        and all(name in how.gone or kind.sizes.get(name) == 1 for name in term.names)
    ]
    own = [axis for side, axis in summed if side == operand]
    other = [(node.input[side], axis) for side, axis in summed if side != operand]
    if len(own) != 1 or len(other) != 1:
        return None
    return LayerInputs(*other[0], own[0])


def choose_directions(weight: np.ndarray, axis: int, moments: Moments) -> Directions | None:
    """Choose how far the elements of a layer move together.

    Args:
        weight: its weight.
        axis: the axis that it sums over.
        moments: of its inputs.

    Returns:
        None where nothing is saved.
    """
    rows = np.moveaxis(np.abs(weight.astype(np.float64)), axis, 0).reshape(weight.shape[axis], -1)
    # elements move in units of the sizes of their columns
    sizes = np.multiply.outer(*[rows.mean(1)] * 2)
    own, other = (_normalise(moment * sizes) for moment in (moments.own, moments.other))
    if own is None or other is None:
        return None
    values, vectors = np.linalg.eigh(own)
    costs = np.einsum("ij,ij->j", vectors, other @ vectors)
    best, gains = 1 - MIN_SAVING, None
    for ridge in RIDGES:
        tried = 1 / (np.maximum(values, 0) + ridge)
        tried /= tried.mean()
        cost = float((costs * tried**2).mean())
        if cost < best and (tried**2).mean() * MIN_DIRECTIONS_SHARE <= 1:
            best, gains = cost, tried
    if gains is None:
        return None
    return Directions(((vectors * gains) @ vectors.T).astype(np.float32), axis)


def _normalise(moments: np.ndarray) -> np.ndarray | None:
    """Divide moments by their mean; None where they say nothing."""
    mean = np.trace(moments) / len(moments)
    is_known = np.isfinite(moments).all() and mean > 0
    return moments.astype(np.float64) / mean if is_known else None
