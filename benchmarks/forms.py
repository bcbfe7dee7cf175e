"""What optimisation, half precision and quantisation leave of a model's symmetry.

    python benchmarks/forms.py [NAME ...]

Takes ten trained or exported models, and of each these forms: after onnxruntime's optimiser (basic
and extended), in half precision, quantised to QDQ int8 with per-channel weights, and dynamically
quantised. All are made by onnxruntime's own tools. Prints the share of symmetry bits that each form
keeps, whether a random permutation leaves the outputs as they were, and for every loss the reasons
of the pins that the float form has not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session
from tests.helpers import architectures, real
from tests.helpers.closed_forms import CASES
from tests.helpers.law import sensitivity

MODERN = 13
EXPORTED = ("vit", "gpt2", "bert", "convnext", "segformer")


def models(folder: Path) -> Iterator[tuple[str, Path]]:
    """Ten models: five trained ones that ship inside packages, five exported from PyTorch."""
    for name in ("yolov8n", "open-nsfw", "ppocr-det", "ppocr-cls", "vgg16"):
        yield name, real.path(name)
    for name in EXPORTED:
        torch.manual_seed(0)
        net, inputs, _, _ = CASES[name]()
        with contextlib.redirect_stdout(io.StringIO()):
            proto = architectures.export(architectures.randomise(net), *inputs, dynamo=False)
        path = folder / f"{name}.onnx"
        onnx.save(proto, path)
        yield name, path


class Samples(CalibrationDataReader):
    """A few random inputs that the model answers to."""

    def __init__(self, path: Path):
        graph = load_graph(path)
        self.left = iter(draw_telling_samples(graph, open_session(graph), 2, 0))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def optimised(level: ort.GraphOptimizationLevel) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return make


def half(source: Path, target: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def static(source: Path, target: Path) -> None:
    if load_graph(source).opset() < MODERN:
        # scales for every channel are newer than that
        model = onnx.version_converter.convert_version(onnx.load(source), MODERN)
        source = target.with_suffix(".modern.onnx")
        onnx.save(model, source)
    quantize_static(
        source,
        target,
        Samples(source),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def dynamic(source: Path, target: Path) -> None:
    # weights that are Constant nodes are initializers after this
    plain = target.with_suffix(".plain.onnx")
    optimised(ort.GraphOptimizationLevel.ORT_ENABLE_BASIC)(source, plain)
    quantize_dynamic(plain, target, weight_type=QuantType.QUInt8)


FORMS: dict[str, Callable[[Path, Path], None]] = {
    "basic": optimised(ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
    "extended": optimised(ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
    "half": half,
    "QDQ int8": static,
    "dynamic": dynamic,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args().names
    logging.disable(logging.WARNING)
    print("| model | form | symmetry bits | kept | law | reasons of what is lost |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, path in models(folder):
            if wanted and model not in wanted:
                continue
            plain = lady.find_groups(path)
            before = Counter(p.reason for p in plain.pinned)
            print(
                f"| {model} | float | {plain.symmetry_bits:.0f} | 100.0 % | {law(path)} |  |",
                flush=True,
            )
            for form, make in FORMS.items():
                target = folder / f"{model}-{form.replace(' ', '-')}.onnx"
                make(path, target)
                found = lady.find_groups(target)
                lost = Counter(p.reason for p in found.pinned) - before
                fewer = found.symmetry_bits < plain.symmetry_bits
                why = "; ".join(f"{r} ({n})" for r, n in lost.most_common(3)) if fewer else ""
                share = 100 * found.symmetry_bits / plain.symmetry_bits
                bits = f"{found.symmetry_bits:.0f}"
                print(
                    f"| {model} | {form} | {bits} | {share:.1f} % | {law(target)} | {why} |",
                    flush=True,
                )


def law(path: Path) -> str:
    """Are the outputs of a permuted copy those of the model, up to rounding?

    Where a model rounds on its way, a sum in another order may tip a value over to the next step.
    What such a step does is measured: the model's own outputs, when its inputs change by one part
    in a million.
    """
    if not lady.find_groups(path).groups:
        return "no groups"
    found = lady.verify(path, lady.permute(path, 1).model)
    if found.equal:
        return "holds"
    step = sensitivity(path)
    verdict = "holds to a step" if found.max_rel <= 2 * step else "BROKEN"
    return f"{verdict} ({found.max_rel:.2g}, a step {step:.2g})"


if __name__ == "__main__":
    main()
