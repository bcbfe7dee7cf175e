"""Draws the README's picture: units of one layer of a trained YOLOv8n, shuffled and put back.

    python benchmarks/picture.py

Writes benchmarks/similarity.svg. The model is read in place from the package that ships it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from lady_onnx.graph.files import open_atomically
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import map_weights
from lady_onnx.matching.evidence.scores import compute_similarities
from lady_onnx.picture import draw_matrices
from tests.helpers import real

GROUP = "model.4.cv2.conv.weight:0"
NOISE = 0.3


def main() -> None:
    reference = load_graph(real.path("yolov8n"))
    suspect = lady.permute(reference, 1).graph
    group = lady.find_groups(reference).group(GROUP)
    rng = np.random.default_rng(0)
    for slot in group.slots:
        array = suspect.array(slot.initializer)
        noise = NOISE * array.std() * rng.standard_normal(array.shape)
        suspect.replace(slot.initializer, (array + noise).astype(array.dtype))
    result = lady.resync(reference, suspect)
    panels = [
        (title, compute_similarities(group, map_weights(reference), map_weights(graph))[:64, :64])
        for title, graph in (("shuffled and noised", suspect), ("re-synchronised", result.graph))
    ]
    with open_atomically(Path(__file__).parent / "similarity.svg") as file:
        file.write(draw_matrices(panels).encode())


if __name__ == "__main__":
    main()
