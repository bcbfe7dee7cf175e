"""Shapes to try for the inputs of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .model import Graph


def choose_input_shapes(
    graph: Graph, sizes: Sequence[int]
) -> Iterator[tuple[dict[str, tuple[int, ...]], set[str]]]:
    """Shapes for the graph's inputs, one choice after the other, and the inputs with a symbolic axis taken as one.

    Symbolic axes get a size out of `sizes`, but for batches: first axes of inputs of two axes or more, and axes
    of the same name. They are two, and one in the next choice, for graphs that have a batch of one baked in.
    Inputs without a shape are left out.
    """
    inputs = {
        v.name: v.type.tensor_type.shape.dim
        for v in graph.model.graph.input
        if v.name not in graph.tensors and v.type.tensor_type.HasField("shape")
    }
    batches = {
        dims[0].dim_param for dims in inputs.values() if len(dims) > 1 and dims[0].dim_value <= 0
    } - {""}
    done = []
    for size in sizes:
        for batch in (2, 1):
            shapes, loose = {}, set()
            for name, dims in inputs.items():
                shape = []
                for axis, dim in enumerate(dims):
                    is_batch = dim.dim_param in batches or (axis == 0 and len(dims) > 1)
                    shape.append(
                        dim.dim_value if dim.dim_value > 0 else batch if is_batch else size
                    )
                    if shape[-1] == 1 and dim.dim_value <= 0:
                        loose.add(name)
                shapes[name] = tuple(shape)
            if shapes not in done:
                done.append(shapes)
                yield shapes, loose
