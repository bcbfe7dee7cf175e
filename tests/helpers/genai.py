"""Language models as onnxruntime-genai's builder writes them, with random weights.

`benchmarks/genai_models.py` writes the archive.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

ARCHIVE = Path(__file__).parent.parent / "data" / "genai.zip"


def list_models() -> list[str]:
    """The names of all models, `llama-fp16` and the like."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return sorted(Path(name).stem for name in archive.namelist())


def make_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """One of the models; what the archive has no values of becomes random."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        model = onnx.load_from_string(archive.read(f"{name}.onnx"))
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.raw_data or not math.prod(tensor.dims):
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if dtype.kind == "u":
            values = rng.integers(0, 256, shape)
        elif len(shape) == 1 or "scales" in tensor.name:
            # gains and scales are positive; a bias may be
            values = rng.uniform(0.1, 0.4, shape)
        else:
            values = 0.3 * rng.standard_normal(shape)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))
    return model


def spell_out_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the norms of queries and keys in front of attention.

    No CPU runs them inside of it.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        gains = list(node.input[14:16])
        if node.op_type != "GroupQueryAttention" or not any(gains):
            nodes.append(node)
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        epsilon = given.pop("qk_norm_epsilon", 1e-6)
        heads, keys = given["num_heads"], given["kv_num_heads"]
        weight = next(t for t in model.graph.initializer if t.name == gains[0])
        width = weight.dims[0]
        base = node.output[0]
        parts = [f"{base}.{part}" for part in "qkv"]
        constants = {
            f"{base}.sizes": [heads * width, keys * width, keys * width],
            f"{base}.apart": [0, 0, -1, width],
            f"{base}.flat": [0, 0, -1],
        }
        plain.graph.initializer.extend(
            numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items()
        )
        if node.input[1]:
            parts = list(node.input[:3])
        else:
            split = [node.input[0], f"{base}.sizes"]
            nodes.append(helper.make_node("Split", split, parts, axis=-1))
        for part, gain in zip(parts[:2], gains, strict=True):
            nodes += [
                helper.make_node("Reshape", [part, f"{base}.apart"], [f"{part}.heads"]),
                helper.make_node(
                    "SimplifiedLayerNormalization",
                    [f"{part}.heads", gain],
                    [f"{part}.normed"],
                    axis=-1,
                    epsilon=epsilon,
                ),
                helper.make_node("Reshape", [f"{part}.normed", f"{base}.flat"], [f"{part}.made"]),
            ]
            lengths = [
                "batch_size",
                "sequence_length",
                width * given["num_heads" if part == parts[0] else "kv_num_heads"],
            ]
            plain.graph.value_info.append(
                helper.make_tensor_value_info(f"{part}.made", weight.data_type, lengths)
            )
        joined = [f"{parts[0]}.made", f"{parts[1]}.made", parts[2], *node.input[3:10]]
        nodes.append(
            helper.make_node(node.op_type, joined, list(node.output), domain=node.domain, **given)
        )
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    return plain
