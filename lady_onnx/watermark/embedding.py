"""Writing a mark into a model, without training."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import ModelProto

from ..dataflow.engine import analyse_graph
from ..errors import LadyError
from ..graph.loading import Model, load_graph
from ..graph.model import Graph, WeightMapping, map_weights
from ..groups.permutations import Arrays
from ..reporting import Report, count_things
from .carriers import hash_model, list_layers, read_layers
from .directions import choose_directions, find_inputs
from .impact import Impact, Probe
from .records import COMMITMENT_BYTES, ID_BYTES, Commitment, Mark
from .schemes.interface import SCHEMES, Directions, Layer, find_scheme
from .secrets.keys import Key
from .secrets.payloads import MAX_PAYLOAD_BYTES, check_length, count_coded_bits, encode_payload

MARKED_NOTE = "marked"
"""The note in the metadata of a marked model."""
MAX_STRENGTH = 1e3
"""A stronger mark leaves nothing of the weights."""
STRENGTHS = (1.0, 0.7, 0.5, 0.35, 0.25)
"""The strengths that are tried, as shares of the scheme's usual one."""
INFORMED_STRENGTHS = (0.2, 0.15, 0.1, 0.07)
"""Then these, by a scheme whose weak marks are read beside the unmarked model.

Noise of a tenth of the weights' deviation hides weaker ones.
"""
MAX_EMPHASIS = 4.0
"""Elements that move further than others count more in a weak mark, up to so many times more.

Else few layers might bear all of it.
"""
MAX_LOSS = 0.005
"""By default a mark may cost half a point of the accuracy."""
LOSS_ROUNDING = 1e-9
"""Shares of samples are rounded by less: 1 - 0.995 is more than 0.005."""


@dataclass(frozen=True, repr=False)
class Marked(Report):
    """A model that bears a mark.

    Attributes:
        graph: the model.
        mark: what is needed beside the key to read it.
        bits: the number of bits that were written.
        change: the norm of the change, relative to that of the layers that carry the mark.
        impact: what it costs, None where nobody measured that.
    """

    graph: Graph
    mark: Mark
    bits: int
    change: float
    impact: Impact | None = None

    @property
    def model(self) -> ModelProto:
        """The marked model."""
        return self.graph.to_model(MARKED_NOTE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the marked model, whole or not at all."""
        self.graph.save(Path(path), MARKED_NOTE)

    def headline(self) -> str:
        """Say in one line what was written."""
        layers = count_things(len(self.mark.layers), "layer")
        what = f"{count_things(self.mark.payload_bytes, 'byte')} as {self.bits} bits"
        return f"marked: {what} in {layers}, which change by {self.change:.2%}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            "scheme": self.mark.scheme,
            "bits": self.bits,
            "payload_bytes": self.mark.payload_bytes,
            "layers": [layer.name for layer in self.mark.layers],
            "strength": self.mark.strength,
            "needs_unmarked": self.mark.is_informed,
            "change": self.change,
            "impact": self.impact,
        }

    def details(self, limit: int | None = None) -> list[str]:
        """Say what the mark costs."""
        lines = []
        if self.mark.is_informed:
            lines.append("keep the unmarked model: so weak a mark is read beside it alone")
        if self.impact is not None:
            lines.append(f"the outputs change by {self.impact.change:.2%} of their size")
        if self.impact is not None and self.impact.metrics is not None:
            before, after = self.impact.metrics
            lines.append(f"{self.impact.metric}: {before:.4f} before, {after:.4f} after")
        return lines


def embed_mark(
    model: Model,
    key: Key,
    payload: bytes | Commitment,
    *,
    scheme: str = SCHEMES[0],
    strength: float | None = None,
) -> Marked:
    """Write a mark into a model, without training.

    Args:
        model: a path or a model.
        key: the owner's key.
        payload: 1 to 64 bytes, or a commitment, whose hash is written.
        scheme: one of `SCHEMES`.
        strength: how strongly, in the scheme's own measure; its usual one by default. A mark of the
            scheme `spread` that is weaker than 0.75 is read beside the unmarked model alone.

    Returns:
        The marked model, and what is needed beside the key to read the mark.

    Raises:
        LadyError: the model cannot be read, or has no room for the payload.
    """
    return plan_mark(load_graph(model), key, payload, scheme, strength).write()


@dataclass(frozen=True)
class Plan:
    """What is to be written into a model.

    Attributes:
        graph: the model.
        mark: the mark.
        key: the key of this mark alone.
        bits: bool [bits], what is to be written.
    """

    graph: Graph
    mark: Mark
    key: Key
    bits: np.ndarray

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The layers that carry the mark, by name, as they are before it is written."""
        names = [layer.name for layer in self.mark.layers]
        return WeightMapping(names, self.graph.array)

    def write(
        self,
        gains: Mapping[str, float] = MappingProxyType({}),
        directions: Mapping[str, Directions] = MappingProxyType({}),
    ) -> Marked:
        """Write the bits.

        Args:
            gains: by layer how far its elements move, relative to others; 1 by default.
            directions: by layer how far its elements move together; each by itself by default.
        """
        layers = [
            replace(n, gain=gains.get(n.name, 1.0), directions=directions.get(n.name))
            for n in self.mark.layers
        ]
        scheme, keys = find_scheme(self.mark.scheme), self.key.derive_layer_key
        return self.finish(scheme.embed(self.weights, layers, keys, self.bits, self.mark.strength))

    def finish(self, changed: Mapping[str, np.ndarray]) -> Marked:
        """Return the marked model, given all weights that changed.

        Raises:
            LadyError: not all bits can be read from it.
        """
        result = self.graph.copy()
        for name, array in changed.items():
            result.replace(name, array)
        layers, scheme = self.mark.layers, find_scheme(self.mark.scheme)
        before = self.weights if self.mark.is_informed else None
        found = read_layers(WeightMapping(list(self.weights), result.array), layers, before)
        with np.errstate(over="ignore", invalid="ignore"):
            soft = scheme.read(found, layers, self.key.derive_layer_key, len(self.bits))
        wrong = int(((soft > 0) != self.bits).sum())
        if wrong:
            what = f"{wrong} of {len(self.bits)} bits are not written"
            raise LadyError(
                f"{self.graph.name}: {what}; write the mark more strongly, or train longer"
            )
        own = {n: changed[n] for n in self.weights if n in changed}
        return Marked(result, self.mark, len(self.bits), _measure_change(self.weights, own))


def plan_mark(
    graph: Graph,
    key: Key,
    payload: bytes | Commitment,
    scheme: str,
    strength: float | None = None,
) -> Plan:
    """Choose the layers that carry a mark, and seal its payload; see `embed_mark`.

    Raises:
        LadyError: the model has no room for the payload, or the strength is no number above zero.
    """
    strength = find_scheme(scheme).strength if strength is None else strength
    if not 0 < strength <= MAX_STRENGTH:
        raise LadyError(
            f"strength is a number above zero, up to {MAX_STRENGTH:g}, not {strength!r}"
        )
    length = COMMITMENT_BYTES if isinstance(payload, Commitment) else len(payload)
    check_length(length)
    layers = _choose_layers(graph, scheme, count_coded_bits(length))
    mark = Mark(scheme, b"", hash_model(graph), length, b"", tuple(layers), strength)
    return _seal_mark(graph, key, payload, mark)


def _seal_mark(graph: Graph, key: Key, payload: bytes | Commitment, mark: Mark) -> Plan:
    """Seal a payload in a mark whose layers and strength are known."""
    scheme, digest = mark.scheme, mark.model
    commitment = payload if isinstance(payload, Commitment) else None
    payload = payload.hash(digest) if isinstance(payload, Commitment) else payload
    identity = key.derive("identity", scheme).sign(payload, ID_BYTES)
    is_informed = mark.strength < find_scheme(scheme).blind_strength
    mark = replace(mark, identity=identity, commitment=commitment, is_informed=is_informed)
    own = mark.derive_key(key)
    mark = replace(mark, sealed=own.derive("record").pad(payload))
    return Plan(graph, mark, own, encode_payload(payload, own))


def embed_gently(
    model: Model,
    key: Key,
    payload: bytes | Commitment,
    *,
    scheme: str = SCHEMES[0],
    max_change: float = math.inf,
    max_loss: float = MAX_LOSS,
    data: Mapping[str, np.ndarray] | None = None,
    metric: str | None = None,
) -> Marked:
    """Write a mark where it changes the outputs least, as strongly as these and the task allow.

    The model is run with each layer changed by itself first. Layers that change the outputs little
    bear more of the mark then (scheme `spread`). Data say besides in which directions the inputs of
    layers vary little, and the mark lies along these. The weakest marks of this scheme are read
    beside the unmarked model alone (`Mark.is_informed`).

    Args:
        model, key, payload, scheme: as for `embed_mark`.
        max_change: the largest change of the outputs, relative to their size.
        max_loss: the largest loss of the task metric.
        data: inputs by name, first axis the sample, and `labels`; random inputs by default.
        metric: `accuracy` or `mse`, of the first output against `labels`, or `agreement`, the
            share of samples whose largest output stays where it is.

    Returns:
        The marked model, with what the mark costs.

    Raises:
        LadyError: the model does not run, or even the weakest mark costs more.
    """
    graph, way = load_graph(model), find_scheme(scheme)
    plan = plan_mark(graph, key, payload, scheme)
    try:
        probe = Probe(graph, data, metric)
    except LadyError as error:
        raise LadyError(f"{error}; or write the mark without a run (--no-run)") from error
    gains: dict[str, float] = {}
    directions: dict[str, Directions] = {}
    if way.has_gains:
        directions = _find_directions(plan, probe)
        even = plan.write(directions=directions).graph
        gains = probe.measure_gains({n.name: even.array(n.name) for n in plan.mark.layers})
    impact = None
    for share in (*STRENGTHS, *(INFORMED_STRENGTHS if way.blind_strength else ())):
        mark = replace(plan.mark, strength=share * way.strength)
        if mark.strength < way.blind_strength:
            mark = replace(mark, layers=_emphasise(mark.layers, gains))
        marked = _seal_mark(graph, key, payload, mark).write(gains, directions)
        impact = probe.measure(marked.graph)
        if impact.change <= max_change and impact.loss <= max_loss + LOSS_ROUNDING:
            return replace(marked, impact=impact)
    assert impact is not None
    what = f"changes the outputs by {impact.change:.2%}"
    if impact.metrics is not None:
        what += f", and costs {impact.loss:.2g} of the {impact.metric}"
    raise LadyError(
        f"{graph.name}: even the weakest mark {what}; allow more, or take another scheme"
    )


def _emphasise(layers: Sequence[Layer], gains: Mapping[str, float]) -> tuple[Layer, ...]:
    """Let elements count by how far they move, since noise hides those that move further less.

    Source: Turin 1960, An introduction to matched filters.
    """
    shares = [min(gains.get(n.name, 1.0), MAX_EMPHASIS) / MAX_EMPHASIS for n in layers]
    # few digits are enough, and a mark file is read by people
    return tuple(
        replace(n, emphasis=float(f"{share:.3g}")) for n, share in zip(layers, shares, strict=True)
    )


def _find_directions(plan: Plan, probe: Probe) -> dict[str, Directions]:
    """Find how far the elements of layers move together, from the data that a model is run with."""
    graph, layers = plan.graph, {n.name for n in plan.mark.layers}
    inputs = find_inputs(graph, analyse_graph(graph), layers)
    found = {
        name: choose_directions(graph.array(name), inputs[name].weight_axis, moments)
        for name, moments in probe.measure_moments(inputs).items()
    }
    return {name: way for name, way in found.items() if way is not None}


def _choose_layers(graph: Graph, scheme: str, bits: int) -> list[Layer]:
    """Choose the layers that carry so many bits.

    Raises:
        LadyError: the model has no room for them.
    """
    way, known = find_scheme(scheme), list_layers(graph)
    layers = way.choose_layers(map_weights(graph), known, bits)
    if not layers:
        room = way.count_bits(known)
        what = f"has room for {room} bits by scheme '{scheme}', and this payload takes {bits}"
        raise LadyError(f"{graph.name}: {what}; give a shorter one, or another scheme")
    return layers


def count_capacity(model: Model, scheme: str = SCHEMES[0]) -> tuple[int, int]:
    """Count the bits that a model has room for, and the bytes of the longest payload.

    Args:
        model: a path or a model.
        scheme: one of `SCHEMES`.
    """
    room = find_scheme(scheme).count_bits(list_layers(load_graph(model)))
    length = 0
    while count_coded_bits(length + 1) <= room and length < MAX_PAYLOAD_BYTES:
        length += 1
    return room, length


def _measure_change(weights: Arrays, changed: Mapping[str, np.ndarray]) -> float:
    """Measure the size of a change, over that of the weights that changed."""
    apart, whole = 0.0, 0.0
    for name, array in changed.items():
        old = np.asarray(weights[name]).astype(np.float64)
        apart += float(np.square(array.astype(np.float64) - old).sum())
        whole += float(np.square(old).sum())
    return (apart / whole) ** 0.5 if whole else 0.0
