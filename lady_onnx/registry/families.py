"""The families of a registry: which of its models are relatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.cluster.hierarchy import DisjointSet

from ..errors import LadyError, to_one_line
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..pipeline.checking import check
from ..pipeline.verdicts import UNRELATED
from ..reporting import MAX_SHOWN_ENTRIES, Report, count_things, list_fields, quote_name
from .direction import tell_direction
from .identification import DEFAULT_CHECKS, Loader, load_known
from .store import Entry, Registry

COLOURS = {
    "identical": "forestgreen",
    "permuted": "forestgreen",
    "rescaled": "forestgreen",
    "altered": "goldenrod",
    "derived": "steelblue",
    "tampered": "firebrick",
}
"""By verdict the colour of its edge."""
SIDES = {"suspect": "relative", "model": "model", None: None}
"""What an edge calls the side that was made of the other."""


@dataclass(frozen=True)
class Edge:
    """Two models that are relatives.

    Attributes:
        model: the path of one.
        relative: the path of the other.
        verdict: what the relative is to the model.
        similarity: of the vectors; see `compare_fingerprints`.
        child: `model` or `relative`, whichever was made of the other; None where nothing tells.
    """

    model: str
    relative: str
    verdict: str
    similarity: float
    child: str | None

    def describe(self) -> str:
        """Say what one is to the other."""
        words = {"relative": "was made of", "model": "is the origin of", None: "is related to"}
        return f"{self.relative} {words[self.child]} {self.model}: {self.verdict}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return list_fields(self)


@dataclass(frozen=True, repr=False)
class Families(Report):
    """The families of a registry.

    Attributes:
        families: the paths of the members of each family, those of one model alone too: the
            largest family first. A model that could not be compared is alone.
        edges: what joins them: each family's edges are a tree.
        unread: by path why a model could not be compared.
        compared: how many pairs were compared.
    """

    families: tuple[tuple[str, ...], ...]
    edges: tuple[Edge, ...]
    unread: dict[str, str]
    compared: int

    def headline(self) -> str:
        """Say how many families there are."""
        models = count_things(sum(map(len, self.families)), "model")
        large = sum(len(f) > 1 for f in self.families)
        several = count_things(large, "family", "families")
        joined = {e.model for e in self.edges} | {e.relative for e in self.edges}
        unknown = len(self.unread.keys() - joined)
        alone = len(self.families) - large - unknown
        line = f"{models}: {several} of several models, {alone} without relatives"
        return f"{line}, {unknown} not compared" if unknown else line

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the families and what joins them."""
        lines = []
        for family in [f for f in self.families if len(f) > 1][:limit]:
            lines.append(f"{family[0]}: {len(family)} models")
            own = [e for e in self.edges if e.model in family]
            lines += [f"  {e.describe()}" for e in own[:limit]]
            if limit is not None and len(own) > limit:
                lines.append(f"  and {len(own) - limit} more")
        return [*lines, *(f"not compared: {why}" for why in list(self.unread.values())[:limit])]

    def to_dot(self) -> str:
        """Return the families as a graph in the language of Graphviz."""
        paths = [path for family in self.families for path in family]
        numbers = {path: k for k, path in enumerate(paths)}
        lines = [f"  n{k} [label={quote_name(path)}];" for path, k in numbers.items()]
        for edge in self.edges:
            ends = [numbers[edge.model], numbers[edge.relative]]
            if edge.child == "model":
                ends.reverse()
            way = "" if edge.child else " dir=none"
            colour = COLOURS[edge.verdict]
            lines.append(f"  n{ends[0]} -> n{ends[1]} [label={edge.verdict} color={colour}{way}];")
        body = "\n".join(lines)
        return f"digraph families {{\n  rankdir=LR;\n  node [shape=box];\n{body}\n}}\n"


def find_families(
    registry: Registry,
    *,
    checks: int = DEFAULT_CHECKS,
    load: Loader = load_graph,
    **options: Any,
) -> Families:
    """Find out which models of a registry are relatives.

    Pairs are checked, first those with equal hashes and then the most similar ones, unless both are
    of one family already, or both have met a more similar stranger.

    Args:
        registry: the registry.
        checks: with how many of its nearest models each is compared.
        load: loads a model by its path.
        options: as for `check`.
    """
    entries = {e.path: e for e in registry.list_entries()}
    joined, edges = DisjointSet(entries), list[Edge]()
    unread: dict[str, str] = {}
    # pairs come by their similarity: who has met a stranger has met all relatives
    settled: set[str] = set()
    compared = 0
    for (model, relative), similarity in _list_pairs(registry, entries, checks):
        is_known = joined.connected(model, relative) or settled >= {model, relative}
        if is_known or {model, relative} & unread.keys():
            continue
        graphs: list[Graph] = []
        for path in (model, relative):
            try:
                graphs.append(load_known(entries[path], load))
            except LadyError as error:
                unread[path] = to_one_line(error)
        if len(graphs) < 2:
            continue
        try:
            found = check(graphs[0], graphs[1], **options)
        except LadyError as error:
            _blame((model, relative), graphs, error, unread)
            continue
        compared += 1
        if found.verdict == UNRELATED:
            settled |= {model, relative}
            continue
        child = SIDES[tell_direction(found, graphs[0]).child]
        edges.append(Edge(model, relative, found.verdict, similarity, child))
        joined.merge(model, relative)
    families = sorted(map(sorted, joined.subsets()), key=lambda f: (-len(f), f[0]))
    return Families(tuple(map(tuple, families)), tuple(edges), unread, compared)


def _blame(
    paths: Sequence[str], graphs: Sequence[Graph], error: LadyError, unread: dict[str, str]
) -> None:
    """Note which of two models cannot be compared: the one that cannot with itself."""
    for path, graph in zip(paths, graphs, strict=True):
        try:
            check(graph, graph)
        except LadyError:
            unread[path] = to_one_line(error)
            return
    unread[paths[1]] = to_one_line(error)


def _list_pairs(
    registry: Registry, entries: Mapping[str, Entry], checks: int
) -> list[tuple[tuple[str, str], float]]:
    """List pairs of near models with their similarity, the most similar ones first.

    Of models that their hashes tell to be copies, each is paired with the first.
    """
    copies: dict[str, list[str]] = defaultdict(list)
    for path in sorted(entries):
        copies[entries[path].fingerprint.exact].append(path)
    pairs = {(first, path): 1.0 for first, *others in copies.values() for path in others}
    for path, own in entries.items():
        exact = own.fingerprint.exact
        for other in registry.find_nearest(own.fingerprint, checks + len(copies[exact])):
            pair = min(path, other.entry.path), max(path, other.entry.path)
            if other.entry.path in entries and other.entry.fingerprint.exact != exact:
                pairs[pair] = other.similarity
    return sorted(pairs.items(), key=lambda p: (-p[1], p[0]))
