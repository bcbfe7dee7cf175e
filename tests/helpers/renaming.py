"""Models under other names."""

from __future__ import annotations

import numpy as np
import onnx


def renamed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same with every name but those of inputs and outputs drawn at random."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rng = np.random.default_rng(seed)
    names = {v.name: v.name for v in (*model.graph.input, *model.graph.output)} | {"": ""}

    def name(old: str) -> str:
        return names.setdefault(old, f"n{rng.integers(1 << 40)}")

    for tensor in model.graph.initializer:
        tensor.name = name(tensor.name)
    for node in model.graph.node:
        node.name = name(node.name)
        node.input[:], node.output[:] = map(name, node.input), map(name, node.output)
    del model.graph.value_info[:]
    return model


def named_alike(model: onnx.ModelProto, like: onnx.ModelProto) -> onnx.ModelProto:
    """The same with the inputs and outputs of another model."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = {}
    for ours, theirs in zip(
        (*model.graph.input, *model.graph.output),
        (*like.graph.input, *like.graph.output),
        strict=True,
    ):
        names[ours.name] = theirs.name
        ours.CopyFrom(theirs)
    for node in model.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    return model
