"""Honest trainings that move a part of the weights: altered copies, and never tampered ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import lady_onnx as lady
from lady_onnx.diagnosis.findings import PARTLY_TRAINED, TAMPERING

from ..helpers.builders import build
from ..helpers.networks import drawn

Weights = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]
SEEDS = range(6)
DEAD = -20.0
"""A bias under which a unit is zero for all inputs."""
INPUTS, HIDDEN, CLASSES, WORDS, WIDTH = 24, 48, 6, 150, 16


def dense(seed: int, dead: float) -> Weights:
    """The weights of two hidden layers, of each of which a share of the units is dead."""
    weights = drawn(
        seed,
        a=(HIDDEN, INPUTS),
        ab=(HIDDEN,),
        b=(HIDDEN, HIDDEN),
        bb=(HIDDEN,),
        c=(CLASSES, HIDDEN),
        cb=(CLASSES,),
    )
    rng = np.random.default_rng(seed)
    for bias in ("ab", "bb"):
        weights[bias] *= np.float32(0.1)
        weights[bias][rng.permutation(HIDDEN)[: round(dead * HIDDEN)]] = DEAD
    return weights


def dense_nodes(flow: str) -> list[onnx.NodeProto]:
    nodes = []
    for number, name in enumerate("abc"):
        nodes.append(
            helper.make_node(
                "Gemm", [flow, name, f"{name}b"], [f"s{number}" if name != "c" else "out"], transB=1
            )
        )
        flow = f"r{number}"
        nodes.append(helper.make_node("Relu", [f"s{number}"], [flow]))
    return nodes[:-1]


def dense_output(w: Tensors, x: torch.Tensor) -> torch.Tensor:
    for name in "ab":
        x = (x @ w[name].T + w[f"{name}b"]).relu()
    return x @ w["c"].T + w["cb"]


def train(
    weights: Weights,
    output: Callable[[Tensors, torch.Tensor], torch.Tensor],
    samples: np.ndarray,
    optimiser: Callable[..., torch.optim.Optimizer],
    learned: Sequence[str],
    steps: int = 30,
) -> Weights:
    """The weights after some steps, where only some are learned.

    A batch has four samples with random labels.
    """
    torch.manual_seed(len(samples))
    tensors = {n: torch.tensor(w) for n, w in weights.items()}
    for name in learned:
        tensors[name].requires_grad_()
    descent = optimiser([tensors[name] for name in learned])
    x = torch.tensor(samples)
    labels = torch.randint(CLASSES, (len(x),))
    for _ in range(steps):
        chosen = torch.randint(len(x), (4,))
        descent.zero_grad()
        torch.nn.functional.cross_entropy(output(tensors, x[chosen]), labels[chosen]).backward()
        descent.step()
    return {n: t.detach().numpy() for n, t in tensors.items()}


def numbers(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).standard_normal((64, INPUTS)).astype(np.float32)


def dense_check(reference: Weights, suspect: Weights, seed: int) -> lady.Check:
    models = [build(dense_nodes("x"), w, {"x": [2, INPUTS]}) for w in (reference, suspect)]
    return lady.check(models[0], lady.permute(models[1], seed).graph)


def is_honest(found: lady.Check) -> bool:
    """Is it altered, and nothing in it called tampering?"""
    assert found.resync is not None
    return found.verdict == "altered" and not any(
        f.kind in TAMPERING for f in found.resync.integrity
    )


OPTIMISERS = {
    "Adam": partial(torch.optim.Adam, lr=0.01),
    "AdamW": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "SGD": partial(torch.optim.SGD, lr=0.3),
    "momentum": partial(torch.optim.SGD, lr=0.03, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("dead", [pytest.param(0.67, marks=pytest.mark.long), 0.9])
def test_dead_units_are_no_measure_of_the_live_ones(name: str, dead: float) -> None:
    for seed in SEEDS:
        weights = dense(seed, dead)
        suspect = train(weights, dense_output, numbers(seed), OPTIMISERS[name], list(weights))
        found = dense_check(weights, suspect, seed)
        assert is_honest(found), (seed, found.reason)


@pytest.mark.parametrize(
    "learned", [["c", "cb"], ["a", "ab"], ["ab", "bb", "cb"], ["b"]], ids="+".join
)
@pytest.mark.parametrize("name", ["AdamW", "momentum"])
def test_frozen_layers_are_no_measure_of_the_learned_ones(name: str, learned: list[str]) -> None:
    for seed in SEEDS:
        weights = dense(seed, 0.67)
        suspect = train(weights, dense_output, numbers(seed), OPTIMISERS[name], learned)
        found = dense_check(weights, suspect, seed)
        assert is_honest(found), (seed, found.reason)


@pytest.mark.parametrize("rank", [1, 4])
def test_merged_updates_of_low_rank(rank: int) -> None:
    def adapted(w: Tensors, x: torch.Tensor) -> torch.Tensor:
        return dense_output({**w, "b": w["b"] + w["left"] @ w["right"]}, x)

    for seed in SEEDS:
        weights = dense(seed, 0.67)
        factors = {
            "left": np.zeros((HIDDEN, rank), np.float32),
            **drawn(seed + 50, right=(rank, HIDDEN)),
        }
        found = train(
            {**weights, **factors},
            adapted,
            numbers(seed),
            partial(torch.optim.SGD, lr=0.1, momentum=0.9),
            ["left", "right"],
        )
        merged = weights["b"] + found["left"] @ found["right"]
        check = dense_check(weights, {**weights, "b": merged}, seed)
        assert is_honest(check), (seed, check.reason)


def words_output(w: Tensors, x: torch.Tensor) -> torch.Tensor:
    return dense_output(w, w["e"][x].mean(1))


@pytest.mark.parametrize(
    "few", [3, *(pytest.param(few, marks=pytest.mark.long) for few in (1, 10))]
)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_words_that_were_read_beside_many_that_were_not(name: str, few: int) -> None:
    nodes = [helper.make_node("Gather", ["e", "x"], ["h"])]
    nodes += [helper.make_node("ReduceMean", ["h"], ["m"], axes=[1], keepdims=0), *dense_nodes("m")]
    for seed in SEEDS:
        rng = np.random.default_rng([seed, few])
        weights = {**dense(seed, 0.3), **drawn(seed + 9, e=(WORDS, WIDTH), a=(HIDDEN, WIDTH))}
        text = rng.choice(rng.permutation(WORDS)[:few], (64, 5))
        learned = list(weights) if seed % 2 else ["e"]
        suspect = train(weights, words_output, text, OPTIMISERS[name], learned)
        models = [build(nodes, w, {"x": [2, 5]}) for w in (weights, suspect)]
        for model in models:
            model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
        found = lady.check(models[0], lady.permute(models[1], seed).graph)
        assert is_honest(found), (seed, found.reason)
        assert found.resync is not None
        # decay moves all words
        told = [f.slot for f in found.resync.integrity if f.kind == PARTLY_TRAINED]
        assert told == (["e"] if name != "AdamW" else []), (seed, told)


@pytest.mark.parametrize("live", [2, 11, 32])
def test_batch_statistics_alone(live: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "gain", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["out"]),
    ]
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        weights = drawn(seed, a=(32, 3, 3, 3), ab=(32,), b=(5, 32, 3, 3), shift=(32,), mean=(32,))
        weights |= {n: rng.uniform(0.5, 1.5, 32).astype(np.float32) for n in ("gain", "variance")}
        # of channels that see nothing the statistics stay
        weights["a"][live:] = 0
        weights["ab"][live:] = weights["mean"][live:]
        norm = torch.nn.BatchNorm2d(32)
        norm.running_mean, norm.running_var = (
            torch.tensor(weights[n]) for n in ("mean", "variance")
        )
        kernel, bias = torch.tensor(weights["a"]), torch.tensor(weights["ab"])
        for _ in range(20):
            images = torch.tensor(rng.standard_normal((4, 3, 8, 8)), dtype=torch.float32)
            norm(torch.nn.functional.conv2d(images, kernel, bias))
        moved = {"mean": norm.running_mean.numpy(), "variance": norm.running_var.numpy()}
        models = [build(nodes, w, {"x": [1, 3, 8, 8]}) for w in (weights, {**weights, **moved})]
        found = lady.check(models[0], lady.permute(models[1], seed).graph)
        assert is_honest(found), (seed, found.reason)


@pytest.mark.parametrize("what", ["weight", "factor", "row"])
@pytest.mark.parametrize("learned", [["c", "cb"], []], ids=["head", "nothing"])
def test_what_was_planted_in_a_frozen_layer_is_found(learned: list[str], what: str) -> None:
    """Beside a head that was trained, and beside nothing that was."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        weights = dense(seed, 0.0)
        suspect = dict(weights)
        if learned:
            suspect = train(weights, dense_output, numbers(seed), OPTIMISERS["Adam"], learned)
        array = suspect["a"].copy()
        match what:
            case "weight":
                array[5, 7] += array.std()
            case "factor":
                array[5] *= np.float32(1.1)
            case _:
                array[5] = 20 * array.std() * rng.standard_normal(INPUTS)
        found = dense_check(weights, {**suspect, "a": array}, seed)
        assert found.verdict == "tampered", (seed, found.reason)
        assert found.resync is not None
        assert {(f.slot, f.unit) for f in found.resync.integrity if f.kind in TAMPERING} == {
            ("a", 5)
        }


def test_a_few_live_units_beside_a_trained_head_are_partly_trained() -> None:
    for seed in SEEDS:
        weights = dense(seed, 46 / 48)
        suspect = train(weights, dense_output, numbers(seed), OPTIMISERS["Adam"], list(weights))
        found = dense_check(weights, suspect, seed)
        assert is_honest(found), (seed, found.reason)
        assert found.resync is not None
        assert {"a", "b"} & {f.slot for f in found.resync.integrity if f.kind == PARTLY_TRAINED}
