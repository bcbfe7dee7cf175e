"""Graphs that are not written alike: paired in their normal forms, or as far as they agree.

The first normal form leaves every bit as it is, the second one holds for real numbers. Where the
forms part the weights may still be paired by which nodes follow each other (`skeleton`); then the
suspect is no copy, whatever its weights.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

import onnx

from ..equality.comparison import (
    GraphComparison,
    find_shared_weight,
    make_parting_error,
    pair_graphs,
)
from ..equality.findings import Difference
from ..errors import ArchitectureError
from ..graph.model import Graph
from ..graph.nodes import has_declared_values
from ..normalform.algebra.term import NoNormalFormError
from ..normalform.form import Form, build_normal_form, choose_version, list_declarations
from ..runtime.simplification import simplify_models
from ..semantics.declarations import StatedLengths, find_unimplied, read_length, walk_dimensions
from .links import Link, make_places
from .skeleton import pair_skeletons


def pair_forms(reference: Graph, suspect: Graph, plain: GraphComparison) -> Link:
    """Find which weight of the suspect is which of the reference, where files are written unlike.

    Args:
        reference, suspect: the graphs.
        plain: how they compare as they are written.

    Raises:
        ArchitectureError: if the weights cannot be paired; the message says where the graphs part.
    """
    # where the files part as they are written is told only if no form says it better
    first = plain.differences[0] if plain.differences else find_shared_weight(plain)
    formed: list[Link] = []
    version = choose_version(reference, suspect)
    # the exact form first: where it is enough, equal weights mean equal bits
    for is_exact in (True, False):
        try:
            found = _pair_normal_forms(reference, suspect, version, is_exact)
        except NoNormalFormError as error:
            found = Difference("a node", str(error), True)
        if isinstance(found, Difference):
            first = found
        elif not found.apart:
            return found
        else:
            formed.append(found)
    return _pair_different_programs(reference, suspect, plain, first, formed)


def list_unshown(
    suspect: Graph, stated: StatedLengths, doubted: Set[str], is_formed: bool
) -> tuple[str, ...]:
    """List the first place where a suspect declares what does not follow from its nodes.

    Args:
        suspect: the suspect.
        stated: what the reference states of the suspect's lengths.
        doubted: the values of which the reference declares less.
        is_formed: whether the two files were compared in their normal forms.

    Returns:
        One place, or none.
    """
    try:
        found = find_unimplied(list_declarations(suspect, stated), stated, doubted, is_formed)
    except NoNormalFormError as error:
        return (f"what is declared of inner values is not known to be so: {error}",)
    return () if found is None else (str(Difference(f"value '{found[0]}'", found[1], False)),)


def _pair_normal_forms(
    reference: Graph, suspect: Graph, version: int, is_exact: bool
) -> Link | Difference:
    """Pair the weights of normal forms.

    Returns:
        The forms, weight by weight; where they part so that their weights cannot be paired, the
        difference.

    Raises:
        NoNormalFormError: if one of the graphs has none.
    """
    ours, theirs = (build_normal_form(g, version, is_exact) for g in (reference, suspect))
    found = pair_graphs(ours.graph, theirs.graph)
    # a file may write equal weights once where the other writes them apart: then both have copies
    if found.one_to_one is None:
        ours, theirs = (
            _copy_shared_weights(form, [pair[side] for pair in found.weights])
            for side, form in enumerate((ours, theirs))
        )
        found = pair_graphs(ours.graph, theirs.graph)
    final = [d for d in found.differences if d.is_final]
    if final:
        place = theirs.find_first_without(ours)
        what = "what it computes has no counterpart in the reference"
        return Difference(f"node {place}", what, True) if place else final[0]
    names = found.one_to_one
    if names is None:
        return find_shared_weight(found)
    apart = tuple(dict.fromkeys(str(d) for d in found.differences))
    if not apart and (found.doubted or has_declared_values(suspect.model)):
        stated = _collect_stated_lengths(found, ours, theirs)
        apart = list_unshown(suspect, stated, found.doubted, is_formed=True)
    return Link(
        ours.graph, theirs.graph, make_places(names), False, apart, is_exact, (ours, theirs)
    )


def _collect_stated_lengths(found: GraphComparison, ours: Form, theirs: Form) -> StatedLengths:
    """Collect what the reference states of lengths in the suspect's file.

    Values of the two files are each other's where their normal forms have one value for both.
    """
    inputs = {v.name for v in ours.source.required_inputs}
    stated = {place: name for place, name in found.stated.items() if place[0] in inputs}
    for name, value in theirs.values.items():
        for kind in ours.declared.get(found.values.get(value, ""), ()):
            for axis, dim in enumerate(walk_dimensions(kind)):
                length = read_length(dim)
                if length is not None:
                    stated.setdefault((name, axis), length)
    return stated


def _pair_different_programs(
    reference: Graph,
    suspect: Graph,
    plain: GraphComparison,
    first: Difference,
    formed: Sequence[Link],
) -> Link:
    """Pair the weights of graphs that are not one program, as far as that can be told.

    Args:
        reference, suspect: the graphs.
        plain: how they compare as they are written.
        first: where they part.
        formed: their normal forms, weight by weight, where these can be paired.

    Raises:
        ArchitectureError: if the weights cannot be paired.
    """
    names = plain.one_to_one
    if plain.differences and names is not None and not any(d.is_final for d in plain.differences):
        # the files differ in what nodes in the same place say
        apart = tuple(dict.fromkeys(str(d) for d in plain.differences))
        return Link(reference, suspect, make_places(names), True, apart)
    # the rounded form is the last one, and has more in common than the exact one
    if formed:
        return formed[-1]
    error = make_parting_error(reference, suspect, first)
    # a graph that onnxruntime cannot load has no simplified form
    for ours, theirs in simplify_models(reference, suspect):
        try:
            places, _ = pair_skeletons(ours, theirs)
        except ArchitectureError:
            continue
        if all(
            math.prod(ours.shape(a)) == math.prod(theirs.shape(p.name)) for a, p in places.items()
        ):
            return Link(ours, theirs, places, False, (str(first),), False)
    raise error


def _copy_shared_weights(form: Form, paired_names: Iterable[str]) -> Form:
    """Give each use of a weight that stands for several weights a copy of its own.

    Args:
        form: the form.
        paired_names: its weights, once for every weight of the other form that each stands for.
    """
    counts = Counter(paired_names)
    shared = {name for name, count in counts.items() if count > 1}
    model = form.graph.to_model("")
    weights = {t.name: t for t in model.graph.initializer}
    taken = {
        name for node in model.graph.node for name in (*node.input, *node.output)
    } | weights.keys()
    leaves, used = dict(form.leaves), set()
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name not in shared or name not in weights:
                continue
            # the first use keeps the weight itself
            if name in used:
                node.input[k] = fresh = _add_copy(model, weights[name], name, taken)
                leaves[fresh] = form.leaves[name]
            used.add(name)
    return replace(
        form,
        graph=Graph(model, form.graph.path, given_states=form.graph.given_states),
        leaves=leaves,
    )


def _add_copy(model: onnx.ModelProto, tensor: onnx.TensorProto, name: str, taken: set[str]) -> str:
    """Add a copy of a weight under a name like its own that is not taken, and return the name."""
    fresh = next(other for n in itertools.count(2) if (other := f"{name}.{n}") not in taken)
    taken.add(fresh)
    model.graph.initializer.add().CopyFrom(tensor)
    model.graph.initializer[-1].name = fresh
    return fresh
