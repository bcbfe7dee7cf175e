"""Marks and stamps in trained models: what is read, what they cost, and false positives.

    python benchmarks/marks.py trained [NETWORK ...]
    python benchmarks/marks.py untrained [MODEL ...]
    python benchmarks/marks.py keys [--keys 10000]
    python benchmarks/marks.py stamps [--identities 10000]

`trained` trains marks of 64 bits into the networks of `train.py`, alters and shuffles them, and
reads the marks alone, shuffled and put back; see `trained_marks.py`. `untrained` writes marks of 64
and 128 bits without training, and reads them after a shuffle with each alteration. Beside them
stands how many decisions of the marked model are those of the original one. `keys` reads a mark
under wrong keys: are the p-values even, and how small is the smallest? `stamps` reads stamps of 128
bits after the same alterations, and after an epoch of training; it tells many identities apart, and
counts the innocent customers who are named. Seeded. Needs the extras `test` and `bench`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))

from lady_onnx.converters.pytorch import finetune

import lady_onnx as lady
from benchmarks.marked_models import MAX_LOSS, MODELS, run
from benchmarks.trained_marks import NETWORKS, Network, measure_trained
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph, map_weights
from lady_onnx.watermark.blocks import LOST, SYMBOLS
from lady_onnx.watermark.extraction import read_weights
from lady_onnx.watermark.schemes.interface import SCHEMES
from lady_onnx.watermark.secrets.keys import Key
from lady_onnx.watermark.tracing import Order, trace_order
from tests.helpers import real

KEY = Key(bytes(31) + b"m")
PAYLOADS = {64: b"64 bits.", 128: b"128 bits of text"}
WAYS = {"spread": None, "spread weak": 0.45, **dict.fromkeys(SCHEMES[1:])}
"""How marks are written that are read under wrong keys: the scheme, and its strength if unusual."""
SHORT = b"32 b"
"""What small models have room for."""
MIXTURES, LOST_SHARE = 20, 0.1
"""How many copies are mixed from those of several customers, and which share of blocks is lost."""


def halve(graph: Graph) -> Graph:
    """A copy whose weights went through half precision."""
    result = graph.copy()
    for name in graph.tensors:
        array = graph.array(name)
        if array.dtype == np.float32:
            with np.errstate(over="ignore"):
                result.replace(name, array.astype(np.float16).astype(np.float32))
    return result


ALTERATIONS: dict[str, Callable[[Graph], Graph]] = {
    "shuffle": lambda g: g,
    "half precision": halve,
    "8 bits": lambda g: lady.attack(g, "quantize", 8).graph,
    "50 % pruned": lambda g: lady.attack(g, "prune", 0.5).graph,
    "noise 0.1": lambda g: lady.attack(g, "noise", 0.1, seed=1).graph,
}
"""What is done to a marked model, before it is shuffled."""


def measure_untrained(names: list[str]) -> None:
    """Prints what is read of marks that were written without training."""
    print(
        "| model | scheme | bits | strength | weights change | outputs change | agreement | "
        f"{' | '.join(ALTERATIONS)} |"
    )
    print("| --- " * (7 + len(ALTERATIONS)) + "|", flush=True)
    for name in names or MODELS:
        model = MODELS[name]
        graph, (inputs, others) = load_graph(model.path()), model.split_inputs()
        before = run(graph, inputs)
        for scheme in ("spread", "uchida"):
            for bits, payload in PAYLOADS.items():
                # other inputs tell where a mark matters least
                bounds = {"metric": model.metric, "max_loss": MAX_LOSS}
                try:
                    marked = lady.embed_gently(
                        graph, KEY, payload, scheme=scheme, data=others, **bounds
                    )
                except lady.LadyError as error:
                    print(f"| {name} | {scheme} | {bits} | refused: {error} |", flush=True)
                    continue
                agreement = model.agree(before, run(marked.graph, inputs))
                assert marked.impact is not None
                cells = []
                for alter in ALTERATIONS.values():
                    suspect = lady.permute(alter(marked.graph), 1).graph
                    found = lady.extract_mark(
                        suspect, KEY, marked.mark, reference=marked.graph, unmarked=graph
                    )
                    best, plain = found.put_back, found.as_it_stands
                    assert best is not None
                    read = "read" if found.payload == payload else "LOST"
                    cells.append(f"{read}, {best.wrong} wrong ({plain.wrong})")
                told = f"{bits}, coded {marked.bits} | {marked.mark.strength:g}"
                costs = f"{marked.change:.2%} | {marked.impact.change:.2%} | {agreement:.2%}"
                row = (name, scheme, told, costs, *cells)
                print(f"| {' | '.join(row)} |", flush=True)


def measure_keys(count: int) -> None:
    """Prints the p-values under wrong keys."""
    print("| model | scheme | keys | mean p | Kolmogorov-Smirnov p | smallest p | payloads read |")
    print("| --- " * 7 + "|", flush=True)
    for name in ("ppocr-cls", "magika", "silero"):
        graph = load_graph(real.path(name))
        for scheme, strength in WAYS.items():
            try:
                marked = lady.embed_mark(
                    graph, KEY, SHORT, scheme=scheme.split()[0], strength=strength
                )
            except lady.LadyError:
                print(f"| {name} | {scheme} | no room |", flush=True)
                continue
            mark, names = marked.mark, [n.name for n in marked.mark.layers]
            weights, before = (
                {n: np.array(map_weights(g)[n]) for n in names} for g in (marked.graph, graph)
            )
            unmarked = before if mark.is_informed else None
            rng = np.random.default_rng(0)
            found = [
                read_weights(weights, Key(rng.bytes(32)), mark, unmarked) for _ in range(count)
            ]
            p_values = np.array([f.p_value for f in found])
            even = stats.kstest(p_values, "uniform").pvalue
            read = sum(f.payload is not None for f in found)
            print(
                f"| {name} | {scheme} | {count} | {p_values.mean():.3f} | {even:.2g} | "
                f"{p_values.min():.2g} | {read} |",
                flush=True,
            )


def measure_stamps(identities: int) -> None:
    """Prints what is read of stamps, and who is named."""
    print(f"| model | symmetry bits | blocks | {' | '.join(ALTERATIONS)} |")
    print("| --- " * (3 + len(ALTERATIONS)) + "|", flush=True)
    paths = {n: m.path() for n, m in MODELS.items()}
    paths |= {n: real.path(n) for n in ("open-nsfw", "ppocr-cls", "ppocr-rec", "magika", "vgg16")}
    payload = PAYLOADS[128]
    for name, path in paths.items():
        original = lady.open_original(path, KEY)
        capacity = lady.count_stamp_capacity(original)
        try:
            stamped = lady.write_stamp(original, payload)
        except lady.LadyError as error:
            print(f"| {name} | refused: {error} |", flush=True)
            continue
        cells = []
        for what, alter in ALTERATIONS.items():
            suspect = stamped.graph if what == "shuffle" else alter(stamped.graph)
            found = lady.read_stamp(original, suspect)
            read = "read" if found.payload == payload else "LOST"
            cells.append(f"{read}, {found.lost} lost, {found.corrected} wrong")
        bits = f"{capacity.symmetry_bits:.0f} | {capacity.blocks}"
        print(f"| {name} | {bits} | {' | '.join(cells)} |", flush=True)
    _train_stamped()
    _tell_apart(lady.open_original(real.path("yolov8n"), KEY), identities)


def _train_stamped() -> None:
    """Prints what is read of stamps after an epoch of training."""
    for name in NETWORKS:
        network = Network(name)
        original = lady.open_original(network.graph, KEY)
        try:
            stamped = lady.write_stamp(original, PAYLOADS[128])
        except lady.LadyError as error:
            print(f"{name}: refused: {error}", flush=True)
            continue
        found = lady.read_stamp(original, finetune(stamped.graph, network.data, 1).graph)
        read = "read" if found.payload == PAYLOADS[128] else "LOST"
        figures = f"{found.lost} of {found.blocks} blocks lost, {found.corrected} wrong"
        print(f"{name}, an epoch of training: {read}, {figures}", flush=True)


def _tell_apart(original: lady.Original, identities: int) -> None:
    """Prints how many identities of one model are told, and how many innocent are named."""
    customers = [f"customer {k}".encode() for k in range(identities)]
    words = {c: original.encode(c) for c in customers}
    rng = np.random.default_rng(0)
    right = sum(
        trace_order(original, Order(words[c], "permuted")).named[0].customer == c for c in customers
    )
    print(f"\n{identities} identities of one model, each read alone: {right} right", flush=True)
    for colluders in (1, 2, 3, 4, 5):
        caught = innocent = 0
        for _ in range(MIXTURES):
            guilty = [customers[k] for k in rng.permutation(identities)[:colluders]]
            all_words = np.array([words[c] for c in guilty])
            count = all_words.shape[1]
            mixed = all_words[rng.integers(0, colluders, count), np.arange(count)]
            mixed = np.where(rng.random(count) < LOST_SHARE, LOST, mixed)
            trace = trace_order(original, Order(mixed, "permuted"), customers)
            named = {a.customer for a in trace.named}
            caught += len(named & set(guilty))
            innocent += len(named - set(guilty))
        print(
            f"{MIXTURES} mixtures of {colluders} copies, {LOST_SHARE:.0%} of the blocks lost: "
            f"{caught} of {MIXTURES * colluders} named, {innocent} innocent of {identities}",
            flush=True,
        )
    named = 0
    for _ in range(MIXTURES):
        chance = rng.integers(0, SYMBOLS, len(words[customers[0]]))
        named += len(trace_order(original, Order(chance, "permuted"), customers).named)
    print(f"{MIXTURES} orders by chance: {named} of {identities} customers named")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("trained", "untrained", "keys", "stamps"))
    names = f"networks of {', '.join(NETWORKS)}, models of {', '.join(MODELS)}"
    parser.add_argument("models", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--keys", type=int, default=10000)
    parser.add_argument("--identities", type=int, default=10000)
    args = parser.parse_args()
    if args.what == "trained":
        measure_trained(args.models)
    elif args.what == "untrained":
        measure_untrained(args.models)
    elif args.what == "keys":
        measure_keys(args.keys)
    else:
        measure_stamps(args.identities)


if __name__ == "__main__":
    main()
