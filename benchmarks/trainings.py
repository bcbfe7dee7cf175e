"""Honest trainings of small networks: `check` may call none of them tampered with.

    python benchmarks/trainings.py [--count 600] [--first 0] [--only SEED ...] [--planted]

Each seed draws a network (dense, convolutions with batch norms, words, a transformer block), the
share of its ReLUs that are dead, the data (handwritten digits or random numbers), the optimiser,
its rate and decay, and how many steps. It draws what is learned (all, some layers, biases alone,
batch statistics alone, or low-rank updates that are merged), and whether the copy is shuffled.
Prints a table, kind of network by optimiser, and every copy that is called tampered with. With
`--planted` the other side: in each trained copy, and in an untouched one, a weight, a unit's factor
and a unit's weights are planted; prints how many are found.

Needs the extras `test` and `torch`. Numbers are float32; rates are per step.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parent.parent))

from lady_onnx.converters.pytorch import Network

import lady_onnx as lady
from benchmarks.training_networks import (
    CLASSES,
    Built,
    build_block,
    build_convolutions,
    build_dense,
    build_words,
)
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph

KINDS = ("dense", "convolutions", "words", "block")
OPTIMISERS = ("Adam", "AdamW", "SGD", "SGD momentum")
PLANTED = ("weight", "factor", "row")
FACTORS = (0.5, 0.9, 1.1, 2.0, 10.0)
SAMPLES = 512
DEAD = -20.0
"""A bias under which a unit is zero for all inputs."""
MOST_DEAD = 0.8
"""The largest share of a layer's units that are dead."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimiser: of `OPTIMISERS`.
        rate, decay: of the optimiser, per step.
        steps: how many.
        batch: the number of samples in a step.
        moving: whether batch norms take, and learn, the statistics of the batches.
        rank: of the updates that are learned in place of the weights; 0 for the weights.
    """

    optimiser: str
    rate: float
    decay: float
    steps: int
    batch: int
    moving: bool
    rank: int = 0


@dataclass(frozen=True)
class Training:
    """A reference, a copy of it that was trained on, and what was drawn.

    Attributes:
        reference, suspect: the models; the units of the suspect are in their places.
        kind, optimiser: of `KINDS` and `OPTIMISERS`.
        shuffled: whether the suspect is to be shuffled.
        words: all that was drawn.
    """

    reference: Graph
    suspect: Graph
    kind: str
    optimiser: str
    shuffled: bool
    words: str


def draw(seed: int) -> Training:
    """The training of that seed."""
    rng = np.random.default_rng([seed, 17])
    torch.manual_seed(seed)
    kind, optimiser = (
        KINDS[int(rng.integers(len(KINDS)))],
        OPTIMISERS[int(rng.integers(len(OPTIMISERS)))],
    )
    digits = rng.random() < 0.6
    vocabulary, length = int(rng.choice([60, 100, 200, 400])), int(rng.integers(4, 12))
    inputs = 64 if digits else int(rng.choice([12, 24, 48]))
    match kind:
        case "dense":
            built, model = build_dense(rng, inputs)
        case "convolutions":
            built, model = build_convolutions(rng)
        case "words":
            built, model = build_words(rng, vocabulary, length)
        case _:
            built, model = build_block(rng)
    dead = float(rng.choice([0.0, rng.uniform(0, MOST_DEAD), MOST_DEAD]))
    graph = load_graph(model).copy()
    for gate in built.gates:
        if rng.random() < 0.8:
            bias = graph.array(gate).copy()
            bias[rng.permutation(bias.size)[: int(dead * bias.size)]] = DEAD
            graph.replace(gate, bias)
    if kind == "words":
        data = _text(rng, np.arange(vocabulary), length)
    else:
        data = _numbers(
            rng, digits, {"dense": (inputs,), "convolutions": (1, 8, 8), "block": (8, 8)}[kind]
        )
    every = [n for names in built.layers for n in names]
    recipe = Recipe("Adam", 1e-3, 0.0, int(rng.choice([0, 20, 60])), 32, True)
    graph = _trained(graph, built, every, data, recipe)
    if kind == "words":
        data = _text(rng, rng.permutation(vocabulary)[: int(rng.choice([1, 2, 4, 8, 20]))], length)
    rate, steps = 10 ** rng.uniform(-4, -2), round(10 ** rng.uniform(1, np.log10(400)))
    decay = float(rng.choice([1e-2, 1e-1] if optimiser == "AdamW" else [0, 0, 1e-4, 1e-2]))
    batch = int(rng.choice([4, 16, 64]))
    learned, rank, what = _what(rng, built, kind == "convolutions")
    moving = what == "batch statistics" or rng.random() < 0.5
    recipe = Recipe(optimiser, rate, decay, steps, batch, moving, rank)
    suspect = _trained(graph, built, learned, data, recipe)
    said = (
        f"{steps} steps of {batch} at {rate:.2g}, decay {decay:g}, {100 * dead:.0f} % dead, {what}"
    )
    said += ", digits" if digits and kind != "words" else ", random data"
    said += ", batch statistics" if moving and built.statistics else ""
    return Training(graph, suspect, kind, optimiser, bool(rng.random() < 0.5), said)


def _what(rng: np.random.Generator, built: Built, statistics: bool) -> tuple[list[str], int, str]:
    """The names of the weights that are learned, the rank of their updates, and both in words.

    The rank is 0 for any.
    """
    every = [n for names in built.layers for n in names]
    how = rng.choice(
        ["all", "some", "low rank", "biases", "statistics"], p=[0.4, 0.25, 0.2, 0.075, 0.075]
    )
    if how == "statistics" and statistics:
        return [], 0, "batch statistics"
    if how == "biases":
        return [n for n in every if built.weights[n].ndim == 1], 0, "biases"
    if how == "all" or how == "statistics":
        return every, 0, "all layers"
    chosen = [
        built.layers[k]
        for k in rng.permutation(len(built.layers))[: int(rng.integers(1, len(built.layers)))]
    ]
    names = [n for own in chosen for n in own] or every
    if how == "some":
        return names, 0, f"learned {'+'.join(own[0] for own in chosen)}"
    names = [n for n in names if built.weights[n].ndim > 1] or [
        n for n in every if built.weights[n].ndim > 1
    ]
    rank = int(rng.integers(1, 9))
    return names, rank, f"rank {rank} of {'+'.join(names)}"


def _numbers(
    rng: np.random.Generator, digits: bool, shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    if digits:
        images, labels = load_digits(return_X_y=True)
        chosen = rng.permutation(len(images))[:SAMPLES]
        samples, labels = (images[chosen] / 16).reshape(-1, *shape), labels[chosen]
    else:
        samples, labels = rng.standard_normal((SAMPLES, *shape)), rng.integers(0, CLASSES, SAMPLES)
    return torch.tensor(samples, dtype=torch.float32), torch.tensor(labels)


def _text(
    rng: np.random.Generator, words: np.ndarray, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(rng.choice(words, (SAMPLES, length))), torch.tensor(
        rng.integers(0, CLASSES, SAMPLES)
    )


def _trained(
    graph: Graph,
    built: Built,
    learned: Sequence[str],
    data: tuple[torch.Tensor, torch.Tensor],
    recipe: Recipe,
) -> Graph:
    """The graph trained on."""
    rank = recipe.rank
    network = Network(graph, [] if rank else learned)
    network.train(recipe.moving)
    factors = {n: _factors(network.weights[n], rank) for n in learned} if rank else {}
    given = [*network.parameters(), *(f for pair in factors.values() for f in pair)]
    descent = _optimiser(recipe.optimiser, given, recipe.rate, recipe.decay) if given else None
    samples, labels = data
    for _ in range(recipe.steps):
        for name, (left, right) in factors.items():
            network.learned[name] = _merged(network.weights[name], left, right)
        chosen = torch.randint(len(samples), (recipe.batch,))
        loss = torch.nn.functional.cross_entropy(network({"x": samples[chosen]})[0], labels[chosen])
        if descent is not None:
            descent.zero_grad()
            loss.backward()
            descent.step()
    result = graph.copy()
    found = (
        {n: _merged(network.weights[n], *pair) for n, pair in factors.items()}
        if rank
        else dict(network.learned)
    )
    found |= {n: network.weights[n] for n in built.statistics}
    for name, tensor in found.items():
        result.replace(name, tensor.detach().numpy().copy())
    return result


def _factors(weight: torch.Tensor, rank: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """Two matrices whose product, zero at first, is added to a weight.

    Source: low-rank adaptation (Hu et al. 2021).
    """
    rows, columns = len(weight), weight[0].numel()
    return torch.nn.Parameter(torch.zeros(rows, rank)), torch.nn.Parameter(
        torch.randn(rank, columns) / columns**0.5
    )


def _merged(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return weight + (left @ right).reshape(weight.shape)


def _optimiser(
    name: str, given: list[torch.nn.Parameter], rate: float, decay: float
) -> torch.optim.Optimizer:
    match name:
        case "Adam":
            return torch.optim.Adam(given, rate, weight_decay=decay)
        case "AdamW":
            return torch.optim.AdamW(given, rate, weight_decay=decay)
        case "SGD":
            return torch.optim.SGD(given, rate, weight_decay=decay)
        case _:
            return torch.optim.SGD(given, rate, momentum=0.9, weight_decay=decay)


def shuffled(graph: Graph, seed: int, really: bool) -> Graph:
    return lady.permute(graph, seed).graph if really else graph


def plant(graph: Graph, what: str, seed: int) -> tuple[Graph, str]:
    """A copy with one weight, one unit's factor or one unit's weights changed, and where."""
    rng = np.random.default_rng([seed, PLANTED.index(what)])
    slots = [
        s
        for g in lady.find_groups(graph).groups
        for s in g.slots
        if graph.array(s.initializer).ndim > 1
    ]
    slot = slots[int(rng.integers(len(slots)))]
    array = graph.array(slot.initializer).copy()
    where = np.ix_(*slot.places(array.shape, int(rng.integers(len(slot.index)))))
    match what:
        case "weight":
            array[tuple(int(rng.choice(np.ravel(axis))) for axis in where)] = (
                rng.standard_normal() * array.std()
            )
        case "factor":
            array[where] *= np.float32(rng.choice(FACTORS))
        case _:
            array[where] = (rng.standard_normal(array[where].shape) * array.std()).astype(
                np.float32
            )
    result = graph.copy()
    result.replace(slot.initializer, array)
    return result, slot.initializer


def verdict(training: Training, suspect: Graph, seed: int) -> lady.Check:
    return lady.check(training.reference, shuffled(suspect, seed, training.shuffled))


def print_verdicts(seeds: Sequence[int]) -> int:
    """The table of what `check` says; how many copies are called tampered with."""
    table: dict[tuple[str, str], Counter[str]] = {
        (k, o): Counter() for k in KINDS for o in OPTIMISERS
    }
    wrong = []
    for seed in seeds:
        training = draw(seed)
        found = verdict(training, training.suspect, seed)
        table[training.kind, training.optimiser][found.verdict] += 1
        if found.verdict == "tampered" or len(seeds) < 10:
            wrong.append((seed, training, found))
            print(f"seed {seed}: {found.verdict}: {found.reason}", file=sys.stderr, flush=True)
    print("| network | optimiser | trainings | verdicts |\n| --- | --- | --- | --- |")
    for (kind, optimiser), counts in table.items():
        print(f"| {kind} | {optimiser} | {counts.total()} | {_told(counts)} |")
    every = sum(table.values(), Counter())
    print(f"| all | all | {every.total()} | {_told(every)} |")
    for seed, training, found in wrong:
        words = f"{training.words}{', shuffled' * training.shuffled}"
        print(f"\nseed {seed}: {training.kind}, {training.optimiser}, {words}")
        print(f"{found.verdict}: {found.reason}")
    return every["tampered"]


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "-"


def print_planted(seeds: Sequence[int]) -> None:
    """The table of how many planted changes are found."""
    found: dict[tuple[str, str], list[bool]] = {
        (where, what): [] for where in ("untouched", "trained") for what in PLANTED
    }
    for seed in seeds:
        for where, what, yes in _plantings(seed):
            found[where, what].append(yes)
    print("| copy | planted | trials | called tampered with |\n| --- | --- | --- | --- |")
    for (where, what), answers in found.items():
        share = f"{sum(answers)} ({100 * np.mean(answers):.1f} %)"
        print(f"| {where} | {what} | {len(answers)} | {share} |")


def _plantings(seed: int) -> Iterator[tuple[str, str, bool]]:
    training = draw(seed)
    for where, graph in (("untouched", training.reference), ("trained", training.suspect)):
        for what in PLANTED:
            suspect, name = plant(graph, what, seed)
            answer = verdict(training, suspect, seed)
            if answer.verdict != "tampered" and where == "untouched":
                print(
                    f"seed {seed}: {where}, {what} in {name}: {answer.verdict}: {answer.reason}",
                    file=sys.stderr,
                    flush=True,
                )
            yield where, what, answer.verdict == "tampered"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=600, help="how many trainings")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, nargs="+", help="these seeds alone")
    parser.add_argument(
        "--planted", action="store_true", help="plant changes, and count those that are found"
    )
    args = parser.parse_args()
    # two threads are slower than one on networks as small as these
    torch.set_num_threads(1)
    seeds = args.only or range(args.first, args.first + args.count)
    start = time.process_time()
    wrong = print_planted(seeds) if args.planted else print_verdicts(seeds)
    print(
        f"\nseeds {seeds[0]} to {seeds[-1]}, {time.process_time() - start:.0f} s of processor time"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
