"""The main job on real trained models, through the command line as users call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.permutations import Nesting, invert_permutations

from ..helpers import real

SLOW = {"open-nsfw", "ppocr-rec", "vgg16"}
"""Models that take longest."""
TRIALS = [
    pytest.param(name, seed, marks=pytest.mark.long if seed > 1 or name in SLOW else ())
    for seed in range(1, 11)
    for name in real.MODELS
]


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("name", "seed"), TRIALS)
def test_the_main_job(
    name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, suspect, back = real.path(name), tmp_path / "suspect.onnx", tmp_path / "back.onnx"
    assert call(capsys, "permute", reference, "-o", suspect, "--seed", str(seed))[0] == 0
    ours, theirs = load_graph(reference), load_graph(suspect)
    for group in lady.find_groups(ours).groups:
        for slot in group.slots:
            assert not np.array_equal(
                ours.array(slot.initializer), theirs.array(slot.initializer)
            ), slot.initializer

    inputs = real.inputs(name)
    if inputs:
        np.savez(tmp_path / "inputs.npz", **inputs)
    code, found = call(
        capsys,
        "verify",
        reference,
        suspect,
        *(["--data", tmp_path / "inputs.npz"] if inputs else []),
    )
    assert code == 0
    assert found["equal"]

    code, found = call(capsys, "resync", reference, suspect, "-o", back)
    assert code == 0
    assert found["outputs_preserved"] is True
    assert found["verified_by"] == "run"
    assert found["max_weight_difference"] == 0
    result = load_graph(back)
    for weight in ours.tensors:
        assert ours.array(weight).tobytes() == result.array(weight).tobytes(), weight

    code, found = call(capsys, "check", reference, suspect)
    assert (code, found["verdict"]) == (0, "permuted")


def test_noise_on_every_layer() -> None:
    """A tenth of each tensor's standard deviation: at least 99.9 % of all units are put back."""
    reference = load_graph(real.path("yolov8n"))
    shuffled = lady.permute(reference, 1)
    rng = np.random.default_rng(1)
    layers = {name for node in reference.nodes if node.op_type == "Conv" for name in node.input[1:]}
    assert len(layers) > 120
    for name in sorted(layers):
        array = shuffled.graph.array(name)
        noise = 0.1 * array.std() * rng.standard_normal(array.shape)
        shuffled.graph.replace(name, (array + noise).astype(array.dtype))
    result = lady.resync(reference, shuffled.graph)
    groups = result.symmetry.groups
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    right = sum(int((result.permutations[g.id] == truth[g.id]).sum()) for g in groups)
    assert right / sum(g.size for g in groups) >= 0.999
    assert result.outputs_preserved
    assert lady.check(reference, shuffled.graph).verdict == "altered"
