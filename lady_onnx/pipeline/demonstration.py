"""A first minute: a small trained classifier, shuffled and slightly noised, and put back."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LadyError
from ..graph.files import open_atomically
from ..graph.loading import load_graph
from ..graph.model import map_weights
from ..groups.permutations import Nesting, invert_permutations
from ..matching.evidence.scores import compute_similarities
from ..runtime.sessions import compare_models, read_data
from .permuting import NOTE, permute
from .picture import draw_matrices
from .resynchronization import resync

SEED = 1
NOISE = 0.05
"""Standard deviation of the noise, in units of each tensor's own."""
SHOWN = 64
"""Units in the picture, at most."""


def run_demo(folder: Path) -> dict[str, Any]:
    """Writes the demo's files into `folder`, and returns what was measured on them.

    Raises LadyError where the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LadyError(
            f"{folder}: cannot make this folder: {error.strerror}; choose another one"
        ) from error
    source = resources.files("lady_onnx.data")
    paths = {name: folder / f"{name}.onnx" for name in ("reference", "suspect", "resynced")}
    with resources.as_file(source / "digits.onnx") as model:
        reference = load_graph(model)
    with resources.as_file(source / "digits.npz") as file:
        data = read_data(file)
    reference.save(paths["reference"], "demo")
    shuffled = permute(reference, SEED)
    suspect = shuffled.graph
    generator = np.random.default_rng(SEED)
    slots = sorted({s.initializer for g in shuffled.symmetry.groups for s in g.slots})
    for name in slots:
        array = suspect.array(name)
        suspect.replace(
            name,
            (array + NOISE * array.std() * generator.standard_normal(array.shape)).astype(
                array.dtype
            ),
        )
    suspect.save(paths["suspect"], NOTE)
    result = resync(paths["reference"], paths["suspect"])
    result.save(paths["resynced"])

    groups = result.symmetry.groups
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    restored = sum(int((result.permutations[g.id] == truth[g.id]).sum()) for g in groups)
    graphs = {name: load_graph(path) for name, path in paths.items()}
    models = []
    for name, graph in graphs.items():
        measured = compare_models(reference, graph, data=data, metric_name="accuracy")
        assert measured.metrics is not None
        alike = [
            np.corrcoef(reference.array(n).ravel(), graph.array(n).ravel())[0, 1] for n in slots
        ]
        models.append(
            {
                "model": name,
                "file": str(paths[name]),
                "accuracy": measured.metrics[1],
                "correlation": float(np.mean(alike)),
            }
        )
    shown = max(
        (g for g in groups if not g.parents), key=lambda g: (min(g.size, SHOWN), len(g.slots))
    )
    before, after = (
        compute_similarities(shown, map_weights(graphs["reference"]), map_weights(graphs[name]))[
            :SHOWN, :SHOWN
        ]
        for name in ("suspect", "resynced")
    )
    picture = folder / "similarity.svg"
    with open_atomically(picture) as file_:
        titles = ("shuffled: similarity of units", "re-synchronised")
        file_.write(draw_matrices([(titles[0], before), (titles[1], after)]).encode())
    return {
        "models": models,
        "units": sum(g.size for g in groups),
        "units_moved": sum(
            int((p != np.arange(p.size)).sum()) for p in shuffled.permutations.values()
        ),
        "units_restored": restored,
        "picture": str(picture),
    }
