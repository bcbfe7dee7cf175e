"""The paper's own matching: equation 8 and Algorithm 1, beside the same in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.permutations import Nesting, invert_permutations
from lady_onnx.matching.evidence.assignment import choose_best_columns
from lady_onnx.matching.incoming import find_incoming_slots
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from ..helpers import real
from ..helpers.law import examples
from ..helpers.networks import attention, perceptron, stream


@examples(60)
@given(st.integers(2, 30), st.integers(1, 40), st.floats(0, 2), st.integers(0, 1000))
def test_every_row_takes_its_best_column(rows: int, elements: int, level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, elements))
    y = x + level * rng.standard_normal(x.shape)
    scores = x @ y.T
    found = choose_best_columns(scores)
    assert sorted(found) == list(range(rows))
    best = scores.argmax(1)
    for i, j in enumerate(found):
        if j != best[i]:
            # another row wanted it more
            assert any(
                found[k] == best[i] and scores[k, best[i]] >= scores[i, best[i]]
                for k in range(rows)
            )


def test_rows_that_make_a_unit_and_those_that_read_it() -> None:
    graph = load_graph(stream(12, 2, True, 0))
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    told = find_incoming_slots(symmetry.groups, find_scalings(graph, analysis, symmetry.groups))
    found = {frozenset((s.initializer, s.axis) for s in slots) for slots in told.values()}
    assert found == {
        frozenset({("stem", 1), ("b0", 1), ("b1", 1)}),
        frozenset({("a0", 1), ("c0", 0)}),
        frozenset({("a1", 1), ("c1", 0)}),
    }


@pytest.mark.parametrize("name", ["open-nsfw", "yolov8n"])
def test_convolutions_are_read_along_their_second_axis(name: str) -> None:
    graph = load_graph(real.path(name))
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    told = find_incoming_slots(symmetry.groups, find_scalings(graph, analysis, symmetry.groups))
    assert told.keys() == {g.id for g in symmetry.groups}
    assert {s.axis for slots in told.values() for s in slots} == {0}


@pytest.mark.parametrize("assignment", ["optimal", "argmax"])
@pytest.mark.parametrize("seed", range(4))
def test_heads_of_a_shuffled_copy_are_found(seed: int, assignment: str) -> None:
    """An exact pair of heads is the best one, also among cosines."""
    model = attention(seed, (1, 1, 1, 1))
    shuffled = lady.permute(model, seed + 1)
    found = lady.resync(
        model, shuffled.model, verify="none", evidence="incoming", assignment=assignment
    )
    assert found.exact


@pytest.mark.parametrize("assignment", ["optimal", "argmax"])
def test_a_stranger_is_none_of_the_paper_s_copies(assignment: str) -> None:
    """Its nearest units have cosines as large as those of a noisy copy."""
    model, stranger = (perceptron((12, 60, 60, 40), seed=k) for k in (0, 1))
    noisy = lady.permute(lady.attack(model, "noise", 0.3).graph, 1).model
    for suspect, verdict in ((stranger, "unrelated"), (noisy, "altered")):
        for level in ("incoming", "all"):
            found = lady.resync(model, suspect, evidence=level, assignment=assignment)
            assert found.verdict == verdict, (level, found.judged.reason)


def test_a_wrong_match_is_not_certain_because_another_one_is() -> None:
    model = perceptron((12, 60, 60, 40), seed=0)
    shuffled = lady.permute(model, 1)
    noisy = lady.attack(shuffled.graph, "noise", 2.0, seed=1).graph
    found = lady.resync(model, noisy, evidence="incoming", assignment="argmax")
    truth = invert_permutations(Nesting(shuffled.symmetry.groups), shuffled.permutations)
    right = np.concatenate([m.permutation == truth[m.group] for m in found.matches])
    certain = np.concatenate([m.certainty for m in found.matches])
    assert 0.05 < right.mean() < 0.9
    assert certain[~right].mean() < 0.3


@examples(20)
@given(st.floats(0.3, 2), st.integers(0, 1000))
def test_algorithm_1_is_equation_8(level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = load_graph(stream(24, 1, False, seed))
    # cosines are not those of deviations from the mean
    reference.replace("a0", reference.array("a0") + 2 * reference.array("a0").std())
    shuffled = lady.permute(reference, seed)
    (group,) = [
        g
        for g in shuffled.symmetry.groups
        if any(s.initializer == "a0" and s.axis == 1 for s in g.slots)
    ]
    layer = shuffled.graph.array("a0")
    shuffled.graph.replace(
        "a0", (layer + level * layer.std() * rng.standard_normal(layer.shape)).astype(np.float32)
    )
    found = lady.resync(
        reference, shuffled.graph, verify="none", evidence="incoming", assignment="argmax"
    ).permutations
    # the stream in front of the layer is put back without a fault: its own rows are as they were
    truth = invert_permutations(Nesting(shuffled.symmetry.groups), shuffled.permutations)
    (first,) = [g for g in shuffled.symmetry.groups if g.id != group.id]
    assume((found[first.id] == truth[first.id]).all())
    w, other = reference.array("a0").T, shuffled.graph.array("a0")[found[first.id]].T
    cosine = (w / np.linalg.norm(w, axis=1, keepdims=True)) @ (
        other / np.linalg.norm(other, axis=1, keepdims=True)
    ).T
    best = cosine.argmax(1)
    alone = np.isin(best, [j for j in best if (best == j).sum() == 1])
    assert (found[group.id] == best)[alone].all()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"assignment": "best"}, "assignment is one of optimal, argmax, not 'best'"),
        ({"evidence": "outgoing"}, "evidence is one of all, incoming, not 'outgoing'"),
    ],
)
def test_unknown_ways_are_refused(asked: dict[str, str], said: str) -> None:
    model = stream(8, 1, False, 0)
    with pytest.raises(lady.LadyError, match=f"^{said}$"):
        lady.resync(model, model, **asked)
