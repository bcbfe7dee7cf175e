"""Language models as onnxruntime-genai's builder writes them, with random weights.

`benchmarks/genai_models.py` writes the archive.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

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
