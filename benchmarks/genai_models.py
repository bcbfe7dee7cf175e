"""Language models as onnxruntime-genai's builder writes them, without their weights.

    python -m venv genai && genai/bin/pip install onnxruntime-genai torch transformers sentencepiece
    genai/bin/python benchmarks/genai_models.py tests/data/genai.zip

An environment of its own: the builder wants another onnxruntime than lady-onnx. It works offline,
on random models of two layers. Every graph is kept as it was written; of its weights only the
types and shapes are kept, and small integers. `tests/helpers/genai.py` puts random weights in.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from tokenizers import Tokenizer, models

# The builder takes a layer of the vocabulary's size for the head, so no other layer has it.
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = {"head_dim": 16, "sliding_window": 8}
GEMMA = {**WINDOW, "query_pre_attn_scalar": 16}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * k for k in range(8)],
    "long_factor": [2.0 + 0.1 * k for k in range(8)],
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("Gemma2Config", GEMMA),
    "gemma3": ("Gemma3TextConfig", GEMMA),
    "granite": ("GraniteConfig", {}),
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", WINDOW),
    "olmo": ("OlmoConfig", {}),
    "phi3": ("Phi3Config", {"original_max_position_embeddings": 128}),
    "phi3-long": (
        "Phi3Config",
        {"original_max_position_embeddings": 64, "rope_parameters": LONG_ROPE},
    ),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "gpt-oss": (
        "GptOssConfig",
        {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}
"""By model the configuration's class in transformers, and what is special about it."""
PRECISIONS = {"fp32": "cpu", "fp16": "cuda", "int4": "cpu"}
"""By precision the execution provider for which the graph is written."""
MAX_KEPT_INTEGERS = 64
"""Integers up to this number are shapes, axes and indices, and no weights."""


def _adapt_gemma3(config: dict[str, Any]) -> None:
    """Write the rotary parameters as the builder reads them: flat, as transformers 4 did."""
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6}


def _adapt_phi3_long(config: dict[str, Any]) -> None:
    config["rope_parameters"]["type"] = "longrope"


ADAPTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "gemma3": _adapt_gemma3,
    "phi3-long": _adapt_phi3_long,
}


def _save_source(name: str, folder: Path) -> None:
    """Save a random model and a tokenizer, as the builder wants them."""
    kind, more = CONFIGS[name]
    config = getattr(transformers, kind)(**SIZES, **more)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = models.WordLevel({f"t{k}": k for k in range(96)}, unk_token="t0")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), bos_token="t1", eos_token="t2", pad_token="t0"
    ).save_pretrained(folder)
    if name in ADAPTED:
        path = folder / "config.json"
        read = json.loads(path.read_text())
        ADAPTED[name](read)
        path.write_text(json.dumps(read))


def _build(source: Path, folder: Path, precision: str) -> Path:
    """Run the builder in a process of its own."""
    options = ["-p", precision, "-e", PRECISIONS[precision], "-c", str(folder / "cache")]
    command = [sys.executable, __file__, "--builder", "-m", str(source), "-o", str(folder)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return folder / "model.onnx"


def _strip_weights(model: onnx.ModelProto) -> bytes:
    """Leave the values of weights out, and keep what else the file says."""
    for tensor in model.graph.initializer:
        size = 1
        for n in tensor.dims:
            size *= n
        is_integer = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
        if is_integer and size <= MAX_KEPT_INTEGERS:
            continue
        stripped = onnx.TensorProto(
            name=tensor.name, data_type=tensor.data_type, dims=list(tensor.dims)
        )
        tensor.CopyFrom(stripped)
    return model.SerializeToString()


def main(target: str, *names: str) -> None:
    """Write the models of some names, all by default, to a zip file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names or CONFIGS:
            with tempfile.TemporaryDirectory() as work:
                source = Path(work, "source")
                _save_source(name, source)
                for precision in PRECISIONS:
                    try:
                        path = _build(source, Path(work, precision), precision)
                    except subprocess.CalledProcessError as error:
                        print(name, precision, error.stderr.decode().strip().splitlines()[-1])
                        continue
                    model = onnx.load(path)
                    archive.writestr(f"{name}-{precision}.onnx", _strip_weights(model))
                    print(name, precision, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--builder"]:
        # the builder reads this where newer releases of transformers no longer have it
        transformers.Gemma3TextConfig.rope_local_base_freq = 10000.0
        sys.argv.pop(1)
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
    else:
        main(*sys.argv[1:])
