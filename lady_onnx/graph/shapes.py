"""Shapes to try for the inputs of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .model import Graph

BATCH_SIZES = (2, 1)
"""Sizes of batches to try; some graphs have a batch of one built in."""


def choose_input_shapes(
    graph: Graph, sizes: Sequence[int]
) -> Iterator[tuple[dict[str, tuple[int, ...]], set[str]]]:
    """Yield shapes for the graph's inputs, one choice after the other.

    A symbolic axis gets one of the sizes, unless it is a batch: the first axis of an input of two
    axes or more, or an axis with the name of such a one. Inputs without a shape are left out.

    Args:
        graph: the graph.
        sizes: sizes to try for symbolic axes that are not batches.

    Yields:
        The shapes by input, and the inputs with a symbolic axis that is taken to be one.
    """
    inputs = {
        v.name: v.type.tensor_type.shape.dim
        for v in graph.required_inputs
        if v.type.tensor_type.HasField("shape")
    }
    first_axes = [dims[0] for dims in inputs.values() if len(dims) > 1]
    batches = {dim.dim_param for dim in first_axes if dim.dim_value <= 0} - {""}
    done = []
    for size in sizes:
        for batch in BATCH_SIZES:
            shapes, loose = {}, set()
            for name, dims in inputs.items():
                shape = []
                for axis, dim in enumerate(dims):
                    is_batch = dim.dim_param in batches or (axis == 0 and len(dims) > 1)
                    free = batch if is_batch else size
                    shape.append(dim.dim_value if dim.dim_value > 0 else free)
                    if shape[-1] == 1 and dim.dim_value <= 0:
                        loose.add(name)
                shapes[name] = tuple(shape)
            if shapes not in done:
                done.append(shapes)
                yield shapes, loose
