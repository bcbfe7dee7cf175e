"""Shapes to try for the inputs of a graph, and how their symbolic lengths hang together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from ..vocabulary.names import CONV
from .model import Graph
from .nodes import read_attributes

BATCH_SIZES = (2, 1)
"""Sizes of batches to try; some graphs have a batch of one built in."""

MAX_RANK = 32
"""Tensors of more axes are left out: numpy does not broadcast them."""

Sum = tuple[str | int, ...]
"""A length that is the sum of others, each by its name or as a number."""


def choose_input_shapes(
    graph: Graph,
    sizes: Sequence[int],
    known: Mapping[str, int] | None = None,
) -> Iterator[tuple[dict[str, tuple[int, ...]], set[str]]]:
    """Yield shapes for the graph's inputs, one choice after the other.

    A symbolic axis gets one of the sizes, unless it is a batch: the first axis of an input of two
    axes or more, or an axis with the name of such a one. A length that is the sum of others gets
    their sum. Inputs without a shape are left out.

    Args:
        graph: the graph.
        sizes: sizes to try for symbolic axes that are not batches.
        known: sizes of symbolic axes by name, which are not tried.

    Yields:
        The shapes by input, and the inputs with a symbolic axis that is taken to be one.
    """
    inputs = {
        v.name: v.type.tensor_type.shape.dim
        for v in graph.required_inputs
        if v.type.tensor_type.HasField("shape") and len(v.type.tensor_type.shape.dim) <= MAX_RANK
    }
    first_axes = [dims[0] for dims in inputs.values() if len(dims) > 1]
    batches = {dim.dim_param for dim in first_axes if dim.dim_value <= 0} - {""}
    found = find_sums(graph)
    # an axis of a state that has no name may be the batch of the other inputs
    fed = {s.input for s in graph.states}
    batched = {
        (name, axis)
        for name, dims in inputs.items()
        for axis, dim in enumerate(dims)
        if len(dims) > 1 and (axis == 0 or (name in fed and not dim.dim_param))
    }
    fixed = {**_find_channels(graph), **(known or {})}
    done = []
    # some graphs are written for one size of all lengths, whatever their names say
    for sums, size, batch in itertools.product((found, {}) if found else ({},), sizes, BATCH_SIZES):
        free = {**fixed, **dict.fromkeys(batches, batch)}
        shapes, loose = {}, set()
        for name, dims in inputs.items():
            lengths = [
                dim.dim_value
                if dim.dim_value > 0
                else batch
                if (name, axis) in batched
                else size_length(dim.dim_param, sums, free, size)
                for axis, dim in enumerate(dims)
            ]
            shapes[name] = tuple(lengths)
            if any(n == 1 and d.dim_value <= 0 for n, d in zip(lengths, dims, strict=True)):
                loose.add(name)
        if shapes not in done:
            done.append(shapes)
            yield shapes, loose


def _find_channels(graph: Graph) -> dict[str, int]:
    """Find the named lengths that convolutions fix: the channels of inputs that they read."""
    inputs = {v.name: list(v.type.tensor_type.shape.dim) for v in graph.required_inputs}
    found = {}
    for node in graph.nodes:
        if node.op_type != CONV or len(node.input) < 2 or node.input[1] not in graph.tensors:
            continue
        dims, shape = inputs.get(node.input[0], []), graph.shape(node.input[1])
        if len(dims) > 1 and dims[1].dim_param and len(shape) > 1:
            found[dims[1].dim_param] = shape[1] * read_attributes(node).get("group", 1)
    return found


def find_sums(graph: Graph) -> dict[str, Sum]:
    """Find the symbolic lengths of inputs that are sums of others, by their names.

    A name may say so itself, as in `past + 1`. After a step a state is as long as before, plus the
    length of the other inputs.
    """
    inputs, fed = graph.required_inputs, {s.input for s in graph.states}
    names = {d.dim_param for v in inputs for d in v.type.tensor_type.shape.dim} - {""}
    sums = {n: terms for n in names if (terms := _read_sum(n)) is not None}
    grown = _find_grown_lengths(graph)
    steps = [
        d.dim_param
        for v in inputs
        if v.name not in fed
        for d in list(v.type.tensor_type.shape.dim)[1:]
        if d.dim_param and d.dim_param not in grown and d.dim_param not in sums
    ]
    # a graph whose other inputs have fixed lengths goes on one place at a time
    step: str | int = steps[0] if steps else 1
    for after, before in grown.items():
        if after in names and before != step and before not in grown:
            sums.setdefault(after, (before, step))
    return sums


def _read_sum(name: str) -> Sum | None:
    """Read a name that says that a length is a sum; None for any other.

    >>> _read_sum("past_sequence_length + 1"), _read_sum("batch")
    (('past_sequence_length', 1), None)
    """
    terms = [t.strip() for t in name.split("+")]
    if len(terms) < 2 or not all(t.isidentifier() or t.isdigit() for t in terms):
        return None
    return tuple(int(t) if t.isdigit() else t for t in terms)


def _find_grown_lengths(graph: Graph) -> dict[str, str]:
    """Find the names of lengths that states have after a step, and by each that before it."""
    inputs = {v.name: v for v in graph.required_inputs}
    outputs = {v.name: v for v in graph.model.graph.output}
    found: dict[str, str] = {}
    for state in graph.states:
        sides = (inputs[state.input], outputs[state.output])
        before, after = (v.type.tensor_type.shape.dim for v in sides)
        for old, new in zip(before, after, strict=False):
            if old.dim_param and new.dim_param and old.dim_param != new.dim_param:
                found[new.dim_param] = old.dim_param
    return found


def size_length(
    name: str, sums: Mapping[str, Sum], known: Mapping[str, int], otherwise: int
) -> int:
    """Return the size of a symbolic length.

    Args:
        name: its name, "" for none.
        sums: the lengths that are sums of others.
        known: sizes by name.
        otherwise: the size of a length that nothing is known of.

    >>> size_length("total", {"total": ("past", 1)}, {"past": 4}, 9)
    5
    """
    if name in sums:
        rest = {n: s for n, s in sums.items() if n != name}
        terms = (
            t if isinstance(t, int) else size_length(t, rest, known, otherwise) for t in sums[name]
        )
        return sum(terms)
    return known.get(name, otherwise)
