"""A first minute: a small trained classifier of digits, shuffled and noised, and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from ..editing.permuting import PERMUTED_NOTE, Permuted, count_moved, permute
from ..errors import OutputError
from ..graph.files import open_atomically
from ..graph.loading import load_graph
from ..graph.model import Graph, map_weights
from ..groups.permutations import Nesting, invert_permutations
from ..matching.evidence.scores import compute_similarities
from ..picture import draw_matrices
from ..reporting import Report
from ..runtime.comparing.comparison import SessionPair, compare_models
from ..runtime.comparing.data import read_data
from .result import Resync
from .resynchronization import resync

SEED = 1
"""The seed of the permutation and of the noise."""
NOISE_LEVEL = 0.05
"""Standard deviation of the noise, in units of each tensor's own."""
MAX_SHOWN_UNITS = 64
"""The number of units in the picture at most."""
FILE_NAMES = ("reference", "suspect", "resynced")
"""The models of the demonstration, in the order in which they come about."""


@dataclass(frozen=True)
class MeasuredModel:
    """One model of the demonstration and what was measured on it.

    Attributes:
        model: one of `FILE_NAMES`.
        file: where it was written.
        accuracy: the share of the held-out digits that it reads right, 0 to 1.
        correlation: the mean correlation of its weights with the reference's.
    """

    model: str
    file: str
    accuracy: float
    correlation: float


@dataclass(frozen=True, repr=False)
class Demonstration(Report):
    """What the demonstration did and measured.

    Attributes:
        models: the reference, the suspect, and the suspect put back.
        units: the number of units of all groups.
        units_moved: the number that the shuffle moved.
        units_restored: the number that are back in their place.
        picture: the file of the picture.
    """

    models: tuple[MeasuredModel, ...]
    units: int
    units_moved: int
    units_restored: int
    picture: str

    def headline(self) -> str:
        """Say in one line how many units came back."""
        return f"{self.units_restored} of {self.units} units are back in their places"

    def details(self, limit: int | None = None) -> list[str]:
        """Say what was done, and what each model makes of the digits."""
        shuffled = f"{self.units_moved} of its {self.units} units were moved"
        noised = f"noise of {NOISE_LEVEL:g} standard deviations was added to its weights"
        lines = [f"A small classifier of digits was shuffled and noised: {shuffled}, and {noised}."]
        for m in self.models:
            reads = f"reads {100 * m.accuracy:.1f} % of the held-out digits right"
            alike = f"weights correlate {m.correlation:.3f} with the reference's"
            lines.append(f"{m.model + ':':11} {reads}, {alike}; {m.file}")
        return [*lines, f"picture:    {self.picture}"]


def run_demo(folder: Path) -> Demonstration:
    """Write the demonstration's files into a folder, and measure them.

    Args:
        folder: where the files go; it is made if it does not exist.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make this folder: {error.strerror}; choose another one"
        raise OutputError(f"{folder}: {what}") from error
    paths = {name: folder / f"{name}.onnx" for name in FILE_NAMES}
    reference, data = _load_digits()
    reference.save(paths["reference"], "demo")
    shuffled = permute(reference, SEED)
    slots = sorted({s.initializer for g in shuffled.symmetry.groups for s in g.slots})
    # This replaces weights of the shuffled graph in place; its permutations stay as they are.
    _noise_weights(shuffled.graph, slots)
    shuffled.graph.save(paths["suspect"], PERMUTED_NOTE)
    result = resync(paths["reference"], paths["suspect"])
    result.save(paths["resynced"])
    graphs = {name: load_graph(path) for name, path in paths.items()}
    models = []
    for name, graph in graphs.items():
        accuracy, correlation = _measure_model(reference, graph, data, slots)
        models.append(MeasuredModel(name, str(paths[name]), accuracy, correlation))
    picture = folder / "similarity.svg"
    with open_atomically(picture) as file:
        file.write(_draw_picture(reference, result).encode())
    return Demonstration(
        models=tuple(models),
        units=sum(g.size for g in result.symmetry.groups),
        units_moved=count_moved(shuffled.permutations),
        units_restored=_count_restored(shuffled, result),
        picture=str(picture),
    )


def _load_digits() -> tuple[Graph, dict[str, np.ndarray]]:
    """Return the classifier that ships with the package, and the digits that it never saw."""
    source = resources.files("lady_onnx.data")
    with resources.as_file(source / "digits.onnx") as model:
        reference = load_graph(model)
    with resources.as_file(source / "digits.npz") as file:
        return reference, read_data(file)


def _noise_weights(graph: Graph, names: Sequence[str]) -> None:
    """Add seeded noise to some weights of a graph."""
    generator = np.random.default_rng(SEED)
    for name in names:
        array = graph.array(name)
        noise = NOISE_LEVEL * array.std() * generator.standard_normal(array.shape)
        graph.replace(name, (array + noise).astype(array.dtype))


def _measure_model(
    reference: Graph, graph: Graph, data: Mapping[str, np.ndarray], names: Sequence[str]
) -> tuple[float, float]:
    """Return a model's accuracy, and the mean correlation of some weights with the reference's."""
    measured = compare_models(SessionPair(reference, graph), data=data, metric_name="accuracy")
    assert measured.metrics is not None
    correlations = [
        np.corrcoef(reference.array(name).ravel(), graph.array(name).ravel())[0, 1]
        for name in names
    ]
    return measured.metrics[1], float(np.mean(correlations))


def _count_restored(shuffled: Permuted, result: Resync) -> int:
    """Count the units that were found where the shuffle put them."""
    groups = result.symmetry.groups
    # Unit j of the suspect is unit p[j] of the reference, so its inverse says where each unit lies.
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    return sum(int((result.permutations[g.id] == truth[g.id]).sum()) for g in groups)


def _draw_picture(reference: Graph, result: Resync) -> str:
    """Draw the similarity of the units of the largest group as found, and put back, as SVG.

    All other groups are in place in both pictures: where the weights of two units go to units in
    other orders, no similarity of theirs can be seen.
    """
    shown = max(
        (g for g in result.symmetry.groups if not g.parents),
        key=lambda g: (min(g.size, MAX_SHOWN_UNITS), len(g.slots)),
    )
    after = compute_similarities(shown, map_weights(reference), map_weights(result.graph))
    # Column k of `after` is unit permutation[k] of the suspect.
    before = after[:, np.argsort(result.permutations[shown.id])]
    titles = ("suspect: units as they were found", "resynced: units put back in place")
    panels = [
        (title, matrix[:MAX_SHOWN_UNITS, :MAX_SHOWN_UNITS])
        for title, matrix in zip(titles, (before, after), strict=True)
    ]
    caption = f"layer {shown.slots[0].initializer}: {shown.size} units, weights compared pairwise"
    return draw_matrices(panels, caption)
