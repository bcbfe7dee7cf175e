"""A population of small models, and how well the registry tells whose copy a model is.

    python benchmarks/population.py make [--seeds N]
    python benchmarks/population.py vectors
    python benchmarks/population.py identify [--jobs N] [--part K/N]
    python benchmarks/population.py strangers [--jobs N] [--part K/N]
    python benchmarks/population.py report

`make` trains eight architectures, each from N seeds (25), and makes eleven altered copies of each
network: 2,400 models with 25. They are kept in the cache folder and made once. `vectors` compares
ways to make a short vector of a model: how often is the nearest network the right one? `identify`
asks a registry of all networks for every copy, and for every network whether it has a relative
besides itself; it draws the likeness of relatives and strangers. `strangers` compares every model
with the nearest networks that it is no copy of. Both take models in a random order until they are
stopped, and go on where they were; delete `answers-*.jsonl` or `strangers-*.jsonl` in the folder to
begin anew. `report` prints what they said so far. Needs the
extras `test` and `bench`, and Fashion-MNIST. Seeded.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from benchmarks.population_networks import MAKERS, derive, read_data, train_network
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import map_weights
from lady_onnx.normalform.algebra.term import NoNormalFormError
from lady_onnx.normalform.form import NEWEST, build_normal_form
from lady_onnx.pipeline.verdicts import UNRELATED
from lady_onnx.registry.fingerprints import read_units
from lady_onnx.registry.identification import identify, read_entry
from lady_onnx.registry.signs import SignedArrays
from lady_onnx.registry.store import Registry
from lady_onnx.registry.vectors import COMPRESSION, Key, compress_moments, list_families, sum_up
from tests.helpers.real import CACHE

SPAWN = multiprocessing.get_context("spawn")
"""LanceDB does not live through forks."""
POPULATION = CACHE / "population"
"""Where the models lie; `index.jsonl` says of each what it is made of."""
STRANGERS = 16
"""With so many wrong networks each model is compared by `strangers`."""


def make_population(seeds: int) -> None:
    """Trains the networks and derives copies, those that lack."""
    POPULATION.mkdir(parents=True, exist_ok=True)
    data = read_data()
    for seed in range(seeds):
        for architecture in MAKERS:
            name = f"{architecture}-{seed:02}"
            lines = POPULATION / f"{name}.jsonl"
            if lines.exists():
                continue
            start = time.perf_counter()
            learner = train_network(architecture, seed, data)
            model = learner.export()
            load_graph(model).save(POPULATION / f"{name}.onnx", "population")
            entries = [{"file": f"{name}.onnx", "of": name, "relation": "itself", "what": "itself"}]
            for k, (relation, what, graph) in enumerate(derive(learner, model, seed, data)):
                file = f"{name}.{k}.onnx"
                graph.save(POPULATION / file, "population")
                entries.append({"file": file, "of": name, "relation": relation, "what": what})
            lines.write_text("".join(json.dumps(e) + "\n" for e in entries))
            print(f"{name}: {len(entries)} models, {time.perf_counter() - start:.1f} s", flush=True)


def list_models() -> list[dict[str, str]]:
    """All models of the population, with what each is made of."""
    said = "answers-", "strangers-"
    files = (p for p in sorted(POPULATION.glob("*.jsonl")) if not p.name.startswith(said))
    return [line for file in files for line in _read_lines(file)]


def name_kind(what: str) -> str:
    """The alteration and its strength, or that there were two."""
    return "two alterations" if " and " in what else what


def read_families(path: Path) -> list[tuple[Key, np.ndarray]]:
    """The signatures of a model's families, with their keys."""
    graph = load_graph(path)
    with contextlib.suppress(NoNormalFormError):
        graph = build_normal_form(graph, NEWEST).graph
    # the nodes are in order, and so are the weights that they mention
    used = [n for node in graph.nodes for n in node.input if n in graph.tensors]
    groups, scalings = read_units(graph)
    arrays = SignedArrays(map_weights(graph), scalings)
    return list(list_families(groups, arrays, list(dict.fromkeys(used))))


def find_spectrum(table: np.ndarray) -> np.ndarray:
    """The singular values of a family, the largest first."""
    return np.linalg.svd(table, compute_uv=False) / np.linalg.norm(table)


def find_quantiles(table: np.ndarray) -> np.ndarray:
    """Quantiles of the cosines between the units of a family, whatever their signs."""
    cosines = np.abs(table @ table.T)[np.triu_indices(len(table), 1)] / table.shape[1]
    return np.quantile(cosines, np.linspace(0, 1, 33))


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "singular values": find_spectrum,
    "quantiles of cosines": find_quantiles,
    **{
        f"second moments, power {power:.2g}": functools.partial(compress_moments, power=power)
        for power in (1, COMPRESSION, 0.5)
    },
}
"""What a family adds to the vector."""


def compare_ways() -> None:
    """Prints for each way to make vectors how often the nearest network is the right one."""
    models = list_models()
    with ProcessPoolExecutor(mp_context=SPAWN) as pool:
        files = [POPULATION / m["file"] for m in models]
        families = list(pool.map(read_families, files, chunksize=16))
    print("| what a family adds | right at rank 1 | among the first 5 | the worst kind at rank 1 |")
    print("| --- " * 4 + "|")
    for name, way in WAYS.items():
        table = np.array([sum_up((k, way(t)) for k, t in own) for own in families], np.float32)
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        own = [k for k, m in enumerate(models) if m["relation"] == "itself"]
        names = [models[k]["of"] for k in own]
        ranks: dict[str, list[int]] = defaultdict(list)
        for model, row in zip(models, table @ table[own].T, strict=True):
            if model["relation"] != "itself":
                rank = int((row > row[names.index(model["of"])]).sum())
                ranks[name_kind(model["what"])].append(rank)
        every = np.concatenate([*ranks.values()])
        worst = min(ranks, key=lambda kind: np.mean(np.array(ranks[kind]) == 0))
        figures = f"{np.mean(every == 0):.2%} | {np.mean(every < 5):.2%}"
        share = np.mean(np.array(ranks[worst]) == 0)
        print(f"| {name} | {figures} | {worst}: {share:.1%} |", flush=True)


@dataclass(frozen=True)
class Answer:
    """What the registry says of a model.

    Attributes:
        file, of, relation, what: the model, as in the index.
        found: the network that it is said to be a copy of, empty for none.
        verdict: what it is said to be to that.
        direction: which is said to be made of the other, empty where nothing is said.
        rank: how many networks have a vector that is nearer than the right one's.
        likeness: of its vector and that of the right network, and of the nearest wrong one.
        false_relations: how many wrong networks are said to be relatives.
        strangers: how many wrong networks were compared, the nearest ones.
        recognised: the largest share of a wrong network's units that are said to be copies.
        seconds: of the whole answer.
    """

    file: str
    of: str
    relation: str
    what: str
    found: str
    verdict: str
    direction: str
    rank: int
    likeness: float
    wrong_likeness: float
    false_relations: int
    strangers: int
    recognised: float
    seconds: float


def ask(model: dict[str, str], db: str) -> dict[str, Any]:
    """Asks the registry for a model, and returns the fields of an `Answer`."""
    registry = Registry(db)
    path = str(POPULATION / model["file"])
    start = time.perf_counter()
    found = identify(path, registry)
    seconds = time.perf_counter() - start
    right = str((POPULATION / f"{model['of']}.onnx").resolve())
    near = registry.find_nearest(lady.fingerprint(path), len(registry))
    likeness = {n.entry.path: n.similarity for n in near}
    wrong = [v for p, v in likeness.items() if p != right]
    best = found.relatives[0] if found.relatives else None
    compared = [r for r in (*found.relatives, *found.strangers) if r.path != right]
    met = [(r.verdict, r.recognised) for r in compared]
    answer = Answer(
        **model,
        found=Path(best.path).stem if best else "",
        verdict=best.verdict if best else "unrelated",
        direction=(best and best.direction) or "",
        rank=sum(v > likeness[right] for v in wrong),
        likeness=round(likeness[right], 4),
        wrong_likeness=round(max(wrong), 4),
        **_sum_up_strangers(met),
        seconds=round(seconds, 2),
    )
    return asdict(answer)


def _sum_up_strangers(met: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """What `Answer` says of strangers, given for each the verdict and what is recognised."""
    return {
        "false_relations": sum(verdict != UNRELATED for verdict, _ in met),
        "strangers": len(met),
        "recognised": round(max((share for _, share in met), default=0.0), 4),
    }


def meet_strangers(model: dict[str, str], db: str) -> dict[str, Any]:
    """Compares a model with the nearest networks that it is no copy of."""
    path = str(POPULATION / model["file"])
    right = str((POPULATION / f"{model['of']}.onnx").resolve())
    registry = Registry(db)
    near = [n.entry.path for n in registry.find_nearest(lady.fingerprint(path), len(registry))]
    strangers = [p for p in near if p != right][:STRANGERS]
    checks = [lady.check(p, path, threads=1) for p in strangers]
    return {**model, **_sum_up_strangers([(c.verdict, c.recognised) for c in checks])}


def ask_for_all(part: str, jobs: int, has_question: bool) -> None:
    """Asks a registry of the networks for every model, and prints what it says.

    Args:
        part: `K/N`, every Nth model from the Kth.
        jobs: how many are asked for at a time.
        has_question: whether the registry is asked. Else models meet strangers alone, in the
            reverse order.
    """
    models = list_models()
    db = str(POPULATION / "registry")
    registry = Registry(db, is_new=True)
    known = {e.path for e in registry.list_entries()}
    for model in models:
        path = str((POPULATION / model["file"]).resolve())
        if model["relation"] == "itself" and path not in known:
            registry.add([entry for entry in [read_entry(path)] if entry])
    number, count = map(int, part.split("/"))
    order = np.random.default_rng(0).permutation(len(models))
    wanted = [models[k] for k in order[:: 1 if has_question else -1][number - 1 :: count]]
    kind, answer = ("answers", ask) if has_question else ("strangers", meet_strangers)
    out = POPULATION / f"{kind}-{number}-of-{count}.jsonl"
    done = {line["file"] for line in _read_lines(out)} if out.exists() else set()
    wanted = [model for model in wanted if model["file"] not in done]
    with ProcessPoolExecutor(jobs, SPAWN) as pool, out.open("a") as file:
        for said in pool.map(answer, wanted, [db] * len(wanted)):
            file.write(json.dumps(said) + "\n")
            file.flush()
    report_answers()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def report_answers() -> None:
    """Prints how often all answers so far are right, by what was done; draws the likeness."""
    paths = sorted(POPULATION.glob("answers-*.jsonl"))
    answers = [Answer(**line) for path in paths for line in _read_lines(path)]
    print("| what was done | models | named | relation right | vector alone at rank 1 | seconds |")
    print("| --- " * 6 + "|")
    kinds: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.relation != "itself":
            kinds[name_kind(answer.what)].append(answer)
    for kind, own in [*sorted(kinds.items()), ("all", [a for v in kinds.values() for a in v])]:
        named = np.mean([a.found == a.of for a in own])
        right = np.mean([a.found == a.of and a.verdict in EXPECTED[a.relation] for a in own])
        first = np.mean([a.rank == 0 for a in own])
        seconds = np.median([a.seconds for a in own])
        print(f"| {kind} | {len(own)} | {named:.1%} | {right:.1%} | {first:.1%} | {seconds:.1f} |")
    more = [line for path in POPULATION.glob("strangers-*.jsonl") for line in _read_lines(path)]
    met = [*map(asdict, answers), *more]
    false, strangers = (sum(m[n] for m in met) for n in ("false_relations", "strangers"))
    told = [a for a in answers if a.direction and a.found == a.of]
    right = sum(a.direction == "suspect" for a in told)
    print(f"\nstrangers that are called relatives: {false} of {strangers} compared")
    most = max(m["recognised"] for m in met)
    print(f"the largest share of units that are recognised in a stranger: {most:.1%}")
    print(f"direction: told for {len(told)} models, right for {right}")
    draw_likeness(answers, Path(__file__).parent / "population.svg")


EXPECTED = {
    "exact": ("permuted", "rescaled", "identical"),
    "altered": ("altered", "tampered"),
    "derived": ("derived",),
}
"""By relation the verdicts that are right."""


def draw_likeness(answers: Sequence[Answer], path: Path) -> None:
    """Draws how many relatives and how many strangers are at least so much alike."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "population"
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for relation in EXPECTED:
        own = sorted(a.likeness for a in answers if a.relation == relation)
        axes.plot(own, np.linspace(1, 0, len(own)), label=f"{relation} copies")
    own = sorted(a.wrong_likeness for a in answers)
    axes.plot(own, np.linspace(1, 0, len(own)), "k--", label="the nearest stranger of each")
    axes.set(xlabel="cosine of the vectors", ylabel="share that is at least as alike")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("make", "vectors", "identify", "strangers", "report"))
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--part", default="1/1", metavar="K/N", help="every Nth model, from the Kth"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.what == "make":
        make_population(args.seeds)
    elif args.what == "vectors":
        compare_ways()
    elif args.what in ("identify", "strangers"):
        ask_for_all(args.part, args.jobs, args.what == "identify")
    else:
        report_answers()


if __name__ == "__main__":
    main()
