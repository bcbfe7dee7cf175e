"""Which models of a registry is a suspect a copy of?

Hashes find exact copies and vectors find altered ones; neither is believed. `check` compares the
suspect with the nearest models, and its verdict is the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LadyError, MissingFileError, UsageError, to_one_line
from ..graph.external import Stamp, take_stamp
from ..graph.formats import is_mlflow_address
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..pipeline.checking import Check, check
from ..pipeline.verdicts import ACCEPTED, UNRELATED
from ..reporting import MAX_SHOWN_ENTRIES, Report, count_things, format_share, list_fields
from .direction import tell_direction
from .fingerprints import fingerprint
from .store import Entry, Neighbour, Registry

DEFAULT_CHECKS = 10
"""So many models are compared with a suspect, the nearest ones."""
CLOSENESS = (*ACCEPTED, "tampered", "altered", "derived", UNRELATED)
"""Verdicts, the closest relation first."""
MAX_UNREAD = 100
"""So many near models may be gone before farther ones are left out."""
Loader = Callable[[str], Graph]
"""Loads a model by its path."""


@dataclass(frozen=True)
class Relation:
    """What a suspect is to a model of the registry.

    Attributes:
        path: the model.
        similarity: of the vectors; see `compare_fingerprints`.
        likeness: the mean cosine of the units of both, 1 for equal ones, 0 for strangers.
        verdict: that of `check`, with the model as the reference.
        reason: why, in a sentence.
        recognised: the share of the model's units that are in the suspect, 0 to 1.
        direction: `suspect` where the suspect was made of the model, `model` where the model was
            made of the suspect, None where the weights do not tell.
        direction_reason: what of the weights tells it, None where nothing does.
        p_value: how probable it is that a stranger is as similar: the share of the registry's other
            models that are, itself counted as one. Relatives that were not compared count as
            strangers.
    """

    path: str
    similarity: float
    likeness: float
    verdict: str
    reason: str
    recognised: float
    direction: str | None
    direction_reason: str | None
    p_value: float

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return list_fields(self)


@dataclass(frozen=True, repr=False)
class Identification(Report):
    """What a registry knows of a suspect.

    Attributes:
        suspect: its path.
        relatives: the models that it is a copy of, or shares a part with, or that are copies of it:
            the closest verdict first, and of one verdict the most similar model.
        strangers: the models that were compared and are no relatives.
        unread: by path why a near model could not be compared.
        size: how many models the registry has besides.
        has_vector: whether the suspect has a vector. Without one it is found by its hash alone.
    """

    suspect: str
    relatives: tuple[Relation, ...]
    strangers: tuple[Relation, ...]
    unread: dict[str, str]
    size: int
    has_vector: bool

    @property
    def is_answered(self) -> bool:
        """Whether it is known if the suspect has relatives: one was found, or all near were read.

        A near model that could not be read may be one.
        """
        return bool(self.relatives or not self.unread)

    def headline(self) -> str:
        """Say what the suspect is to its closest relative."""
        if self.relatives:
            best = self.relatives[0]
            return f"{best.verdict}: {_name_roles(best)} {best.path}; {best.reason}"
        known = f"no relative is known among {count_things(self.size, 'model')}"
        count = len(self.strangers)
        compared = "the nearest one was compared" if count == 1 else f"{count} were compared"
        if not self.is_answered:
            left = f"{len(self.unread)} near ones could not be; put their files back, or take them"
            what = f"{known}, but {compared}, and {left} out with `lady-onnx registry remove`"
            return f"no answer: {what}"
        if not self.has_vector:
            compared = "it has no vector, so that only exact copies are found"
        return f"{UNRELATED}: {known}; {compared}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List all relatives, and what else was compared."""
        lines = []
        for found in (*self.relatives, *self.strangers)[:limit]:
            said = f"similarity {found.similarity:.3f}, p {found.p_value:.2g}"
            if found.verdict != UNRELATED:
                said += f", {format_share(found.recognised)} of its units are in the suspect"
            lines.append(f"{found.verdict} {found.path}: {said}")
            if found.direction:
                sides = [self.suspect, found.path]
                child, parent = sides if found.direction == "suspect" else sides[::-1]
                lines.append(f"  {child} was made of {parent}: {found.direction_reason}")
        return [*lines, *(f"not compared: {why}" for why in list(self.unread.values())[:limit])]


def _name_roles(found: Relation) -> str:
    if found.direction == "suspect":
        return "made of"
    return "the origin of" if found.direction == "model" else "a relative of"


def identify(
    suspect: str,
    registry: Registry,
    *,
    checks: int = DEFAULT_CHECKS,
    load: Loader = load_graph,
    **options: Any,
) -> Identification:
    """Find the models of a registry that a suspect is a copy of.

    Args:
        suspect: its path.
        registry: the registry.
        checks: how many models are compared with it at most, the nearest first. An exact copy ends
            that, and so does a stranger that comes after a relative.
        load: loads a model by its path.
        options: as for `check`.

    Raises:
        LadyError: the suspect cannot be read.
    """
    graph = load(suspect)
    found = fingerprint(graph)
    # a model that was added is nobody's copy for being there
    seen = {name_model(suspect)}
    copies = [Neighbour(e, 1.0) for e in registry.find_copies(found) if e.path not in seen]
    seen |= {n.entry.path for n in copies}
    near = registry.find_nearest(found, checks + len(seen) + MAX_UNREAD)
    candidates = [*copies, *(n for n in near if n.entry.path not in seen)]
    compared, unread = _compare(graph, candidates, checks, load, options)
    lost = next((n.entry.path for n in copies if n.entry.path in unread), None)
    if lost is not None and all(c.verdict == UNRELATED for _, c, _ in compared):
        raise LadyError(f"{suspect}: has the hash of a model that is known, but {unread[lost]}")
    size = len(registry) - bool(registry.find([name_model(suspect)]))
    strangers = [n.similarity for n, c, _ in compared if c.verdict == UNRELATED]
    count = size - (len(compared) - len(strangers)) + 1
    relations = [
        _relate(n, c, model, graph, (1 + sum(s >= n.similarity for s in strangers)) / count)
        for n, c, model in compared
    ]
    relations.sort(key=lambda r: (CLOSENESS.index(r.verdict), -r.likeness, r.path))
    return Identification(
        suspect,
        tuple(r for r in relations if r.verdict != UNRELATED),
        tuple(r for r in relations if r.verdict == UNRELATED),
        unread,
        size,
        bool(found.vector.any()),
    )


def _compare(
    suspect: Graph,
    candidates: Sequence[Neighbour],
    checks: int,
    load: Loader,
    options: dict[str, Any],
) -> tuple[list[tuple[Neighbour, Check, Graph]], dict[str, str]]:
    """Compare a suspect with models, the nearest first.

    Returns:
        The models with their checks, and by path why one could not be compared.
    """
    compared: list[tuple[Neighbour, Check, Graph]] = []
    unread: dict[str, str] = {}
    for candidate in candidates:
        if len(compared) == checks:
            break
        try:
            model = load_known(candidate.entry, load)
            compared.append((candidate, check(model, suspect, **options), model))
        except LadyError as error:
            unread[candidate.entry.path] = to_one_line(error)
            continue
        # what is less similar than a stranger is a stranger, once a relative was found
        is_relative = [c.verdict != UNRELATED for _, c, _ in compared]
        if compared[-1][1].accepted or (any(is_relative) and not is_relative[-1]):
            break
    return compared, unread


def _relate(near: Neighbour, found: Check, model: Graph, suspect: Graph, p: float) -> Relation:
    direction = tell_direction(found, model)
    return Relation(
        near.entry.path,
        near.similarity,
        found.resync.similarity if found.resync else float(found.accepted),
        found.verdict,
        found.reason,
        found.recognised,
        direction.child,
        direction.reason,
        p,
    )


def load_known(entry: Entry, load: Loader) -> Graph:
    """Load a model that a registry knows.

    Raises:
        LadyError: its files are gone, are other ones than were added, or cannot be read.
    """
    remedy = "take it out with `lady-onnx registry remove`"
    _check_file(entry.path)
    try:
        graph = load(entry.path)
    except MissingFileError:
        # what lies beside it would be suggested, and is another model
        raise MissingFileError(f"{entry.path}: is gone; put it back, or {remedy}") from None
    if hash_files(graph)[0] != entry.sha256:
        raise LadyError(f"{entry.path}: is another file than was added; add it again, or {remedy}")
    return graph


def name_model(path: str) -> str:
    """Return the name of a model in a registry: its address, or its path from the root.

    Raises:
        LadyError: the name is no text.
    """
    if not path:
        raise UsageError("an empty path; give that of a model")
    try:
        name = path if is_mlflow_address(path) else str(Path(path).resolve())
        name.encode()
    except UnicodeEncodeError:
        shown = ascii(path)
        raise LadyError(f"{shown}: the file's name is not UTF-8; give it another") from None
    except (OSError, RuntimeError):
        raise LadyError(f"{path}: a link that leads to itself; give the file") from None
    return name


def _check_file(path: str) -> None:
    """Raise LadyError for a pipe or a device: to read one may never end."""
    file = Path(path)
    if file.exists() and not file.is_file() and not file.is_dir():
        raise LadyError(f"{path}: is no regular file; give a model's")


def read_entry(path: str, load: Loader = load_graph, known: str | None = None) -> Entry | None:
    """Read what a registry keeps of a model.

    Args:
        path: its path or address.
        load: loads a model by its path.
        known: the SHA-256 that its files are known with, None where they are not known.

    Returns:
        None where its files are known as they are.

    Raises:
        LadyError: it cannot be read, holds NaN, or changes while it is read.
    """
    name = name_model(path)
    _check_file(name)
    before = _stamp(Path(name))
    graph = load(path)
    digest, size = hash_files(graph)
    if digest == known:
        return None
    # it could be compared with nothing
    graph.check_numbers()
    found = fingerprint(graph)
    graph.data.check_unchanged()
    if _stamp(Path(name)) != before:
        raise LadyError(f"{path}: changed while it was read; add it again once it is written")
    return Entry(name, digest, size, found)


def _stamp(path: Path) -> Stamp | None:
    """Return what tells whether a file changed, None for an address."""
    try:
        return take_stamp(path)
    except OSError:
        return None


def hash_files(graph: Graph) -> tuple[str, int]:
    """Return SHA-256 of the files of a model, one after the other, and their length."""
    digest, size = hashlib.sha256(), 0
    try:
        for path in _order_files(graph):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
    except OSError as error:
        raise LadyError(f"{graph.name}: cannot be read any more ({error.strerror})") from None
    return digest.hexdigest(), size


def _order_files(graph: Graph) -> Sequence[Path]:
    # the file of the model first, whatever those of its data are called
    return sorted(graph.files, key=lambda p: (p != graph.path, str(p)))
