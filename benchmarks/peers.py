"""lady-onnx beside rebasin and torch-pruning, on the same PyTorch modules.

    python benchmarks/peers.py [--env FOLDER] [NAME ...]
    python benchmarks/peers.py --matching [--env FOLDER]

Compares groups, symmetry bits, seconds and soundness. The peers run in a virtual environment of
their own, which the command makes. Seconds are the least of five runs or more, imports and loading
excluded: `find_groups` on a loaded ONNX graph; rebasin's initialisation of its permutations;
torch-pruning's dependency graph and all its groups. Each tool's groups are then shuffled at random,
by rebasin's own means or along the indices that torch-pruning couples, and the outputs compared.

`--matching` puts a shuffled ResNet-50 back: `resync` of two files, loading and analysis included;
rebasin's coordinate descent, initialisation included; and the weight matching of Git Re-Basin
(Ainsworth et al. 2023) in plain numpy and scipy, which is told which axes go together. Imports are
excluded from all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import math
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

PEERS = ("torch==2.13.0", "rebasin==0.0.47", "torch-pruning==1.6.1", "transformers", "onnx")
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MEMORY = 16 << 30
"""Bytes of address space that each tool may use."""
ENOUGH = 5
"""Seconds of repeats: the machine's own speed changes from one to the next."""
PATIENCE = 300
"""Seconds that a tool may take on one network, imports and all."""
Network = tuple["nn.Module", "tuple[Tensor, ...]"]


NETWORKS = ("ResNet-18", "ResNet-50", "MobileNetV2", "DenseNet", "ViT", "GPT-2")


def network(name: str) -> Network:
    """One of the networks, with random weights, and an input."""
    import torch
    import transformers as hf

    from tests.helpers import architectures as a
    from tests.helpers.families import Wrapped

    torch.manual_seed(0)
    image = (torch.randn(1, 3, 224, 224),)
    inputs: tuple[Tensor, ...] = image
    net: nn.Module
    match name:
        case "ResNet-18":
            net = a.ResNet(a.Basic, (2, 2, 2, 2), (64, 128, 256, 512), 64, 1000)
        case "ResNet-50":
            net = a.ResNet(a.Bottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048), 64, 1000)
        case "MobileNetV2":
            net = a.MobileNetV2(32, 1280, 1000, MOBILENET_V2)
        case "DenseNet":
            net = a.Dense(64, 32, 128, 12, 1000)
        case "ViT":
            vision = hf.ViTConfig(num_labels=1000, attn_implementation="eager")
            net = Wrapped(hf.ViTForImageClassification(vision), "logits", "pixel_values")
        case _:
            text = hf.GPT2Config(attn_implementation="eager")
            net = Wrapped(
                hf.GPT2LMHeadModel(text), "logits", "input_ids", "attention_mask", use_cache=False
            )
            inputs = torch.randint(0, text.vocab_size, (1, 16)), torch.ones(1, 16, dtype=torch.long)
    return a.randomise(net).eval(), inputs


def _least(
    run: Callable[[Any], Any], prepare: Callable[[], Any] = lambda: None
) -> tuple[float, Any]:
    """The least seconds of five runs, or of as many as begin within ENOUGH seconds.

    Each runs on what was prepared for it.
    """
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < 5 or time.perf_counter() - begun < ENOUGH:
        given = prepare()
        start = time.perf_counter()
        result = run(given)
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def _figures(seconds: float, sizes: list[int], error: float) -> dict[str, Any]:
    bits = sum(math.lgamma(n + 1) / math.log(2) for n in sizes)
    return {"seconds": seconds, "groups": len(sizes), "bits": bits, "error": error}


def _apart(net: nn.Module, other: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The largest difference of the outputs, relative to the largest output."""
    import torch

    with torch.no_grad():
        a, b = net(*inputs), other(*inputs)
    return float((a - b).abs().max() / a.abs().max())


def ours(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    import onnx

    from tests.helpers import architectures

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(architectures.export(net, *inputs, dynamo=False), path)
        # as users call it: in a process without PyTorch
        told = subprocess.run(
            [sys.executable, __file__, "--file", path], check=True, capture_output=True, text=True
        ).stdout
    return json.loads(told.splitlines()[-1])


def measured(path: Path) -> dict[str, Any]:
    """The figures of `find_groups` on a file."""
    import lady_onnx as lady
    from lady_onnx.graph.loading import load_graph

    seconds, symmetry = _least(lady.find_groups, lambda: load_graph(path))
    verdict = lady.verify(path, lady.permute(path, 1).model, samples=1)
    return _figures(seconds, [g.size for g in symmetry.groups], verdict.max_rel)


def rebasin(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    import torch
    from rebasin import PermutationCoordinateDescent

    moved = copy.deepcopy(net)
    seconds, found = _least(lambda _: PermutationCoordinateDescent(net, moved, inputs[0]))
    sizes = []
    for permutation, _ in found.pinit.model_graph.permutation_to_info:
        sizes.append(len(permutation))
        permutation.perm_indices = torch.randperm(len(permutation))
    found.apply_permutations()
    return _figures(seconds, sizes, _apart(net, moved, inputs))


def torch_pruning(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    import torch_pruning as tp
    from torch import nn

    moved = copy.deepcopy(net)
    last = [m for m in moved.modules() if isinstance(m, nn.Linear)][-1]

    def find(_: None) -> list[Any]:
        graph = tp.DependencyGraph().build_dependency(moved, example_inputs=inputs)
        return list(graph.get_all_groups(ignored_layers=[last]))

    seconds, groups = _least(find)
    sizes = []
    for group in groups:
        size = len(group[0].idxs)
        sizes.append(size)
        order = random.Random(0).sample(range(size), size)
        for item in group:
            _shuffle(item, order)
    return _figures(seconds, sizes, _apart(net, moved, inputs))


def _shuffle(item: Any, order: list[int]) -> None:
    """Reorders a parameter along the axis and indices that torch-pruning couples to a group."""
    import torch
    from torch import nn

    places: dict[int, list[int]] = {}
    for place, root in zip(item.idxs, item.root_idxs, strict=True):
        places.setdefault(root, []).append(place)
    target = [p for root in range(len(order)) for p in places[root]]
    source = [p for root in range(len(order)) for p in places[order[root]]]
    module, inside = item.dep.target.module, "in_channels" in item.dep.handler.__name__
    if isinstance(module, nn.Parameter):
        tensors = [
            (
                module,
                item.dep.handler.__self__.pruning_dim
                if hasattr(item.dep.handler, "__self__")
                else -1,
            )
        ]
    elif isinstance(module, nn.Conv2d | nn.Linear):
        tensors = [(module.weight, int(inside))] + (
            [] if inside or module.bias is None else [(module.bias, 0)]
        )
    elif isinstance(module, nn.Embedding):
        tensors = [(module.weight, 1)]
    else:
        known = ("weight", "bias", "running_mean", "running_var")
        tensors = [(t, 0) for n in known if (t := getattr(module, n, None)) is not None]
    with torch.no_grad():
        for tensor, axis in tensors:
            line = tensor.data.movedim(axis, 0)
            line[target] = line[source].clone()


def list_permuted_axes(net: nn.Module) -> dict[str, tuple[str | None, ...]]:
    """The permutation of every axis of every parameter of a ResNet-50, as Git Re-Basin is told."""
    from torch import nn

    axes: dict[str, tuple[str | None, ...]] = {}

    def add_convolution(name: str, inside: str | None, outside: str) -> None:
        axes[f"{name}.weight"] = outside, inside

    def add_norm(name: str, place: str) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            axes[f"{name}.{part}"] = (place,)

    here = "stem"
    add_convolution("stem.0.0", None, here)
    add_norm("stem.0.1", here)
    for number, block in enumerate(net.body):
        base, after = f"body.{number}", here
        if not isinstance(block.short, nn.Identity):
            after = f"{base}.short"
            add_convolution(f"{base}.short.0", here, after)
            add_norm(f"{base}.short.1", after)
        add_convolution(f"{base}.body.0.0", here, f"{base}.first")
        add_norm(f"{base}.body.0.1", f"{base}.first")
        add_convolution(f"{base}.body.1.0", f"{base}.first", f"{base}.second")
        add_norm(f"{base}.body.1.1", f"{base}.second")
        add_convolution(f"{base}.body.2", f"{base}.second", after)
        add_norm(f"{base}.body.3", after)
        here = after
    axes["head.weight"] = None, here
    return axes


Arrays = dict[str, Any]
"""Parameters as arrays of numpy, by name."""


def permute_parameters(
    axes: dict[str, tuple[str | None, ...]], arrays: Arrays, orders: Arrays
) -> Arrays:
    """The parameters with their axes in other orders."""
    result = dict(arrays)
    for name, places in axes.items():
        for axis, place in enumerate(places):
            if place is not None:
                result[name] = result[name].take(orders[place], axis)
    return result


def match_weights(
    axes: dict[str, tuple[str | None, ...]], ours: Arrays, theirs: Arrays, seed: int = 0
) -> Arrays:
    """Git Re-Basin's weight matching: one linear assignment a permutation, until none gains."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    slots: dict[str, list[tuple[str, int]]] = {}
    for name, places in axes.items():
        for axis, place in enumerate(places):
            if place is not None:
                slots.setdefault(place, []).append((name, axis))
    orders = {p: np.arange(ours[own[0][0]].shape[own[0][1]]) for p, own in slots.items()}
    has_gained = True
    while has_gained:
        has_gained = False
        for place in rng.permutation(list(slots)).tolist():
            size = len(orders[place])
            table = np.zeros((size, size))
            for name, axis in slots[place]:
                moved = theirs[name]
                for other, known in enumerate(axes[name]):
                    if other != axis and known is not None:
                        moved = moved.take(orders[known], other)
                a, b = (np.moveaxis(z, axis, 0).reshape(size, -1) for z in (ours[name], moved))
                table += a @ b.T
            found = linear_sum_assignment(table, maximize=True)[1]
            before = table[np.arange(size), orders[place]].sum()
            has_gained |= bool(table[np.arange(size), found].sum() > before + 1e-12)
            orders[place] = found
    return orders


def match(tool: str) -> dict[str, Any]:
    """Puts a shuffled ResNet-50 back with one tool: seconds, and the share of weights put back."""
    import numpy as np
    import onnx
    import torch

    from tests.helpers import architectures

    net, inputs = network("ResNet-50")
    axes = list_permuted_axes(net)
    arrays = {n: t.numpy() for n, t in net.state_dict().items()}
    rng = np.random.default_rng(1)
    sizes = {p: arrays[n].shape[a] for n, own in axes.items() for a, p in enumerate(own) if p}
    shuffled = permute_parameters(axes, arrays, {p: rng.permutation(n) for p, n in sizes.items()})
    moved = copy.deepcopy(net)
    moved.load_state_dict({n: torch.from_numpy(a) for n, a in shuffled.items()})
    assert _apart(net, moved, inputs) < 1e-3
    start = time.perf_counter()
    if tool == "numpy and scipy":
        back = permute_parameters(axes, shuffled, match_weights(axes, arrays, shuffled))
        seconds = time.perf_counter() - start
    elif tool == "rebasin":
        from rebasin import PermutationCoordinateDescent

        # it changes the weights of the second module
        PermutationCoordinateDescent(net, moved, inputs[0]).rebasin()
        seconds = time.perf_counter() - start
        back = {n: t.numpy() for n, t in moved.state_dict().items()}
    else:
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{n}.onnx" for n in ("reference", "suspect")]
            for path, module in zip(paths, (net, moved), strict=True):
                onnx.save(architectures.export(module, *inputs, dynamo=False), path)
            told = subprocess.run(
                [sys.executable, __file__, "--pair", *paths],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        return json.loads(told.splitlines()[-1])
    right = sum(a.size for n, a in arrays.items() if n in axes and (back[n] == a).all())
    total = sum(a.size for n, a in arrays.items() if n in axes)
    return {"seconds": seconds, "right": right / total}


def resync_pair(reference: str, suspect: str) -> dict[str, Any]:
    """The figures of `resync` of two files, of the same call made a second time.

    Modules load where they are first used. The other tools' are loaded before the clock starts.
    """
    import lady_onnx as lady

    small = Path(lady.__file__).parent / "data" / "digits.onnx"
    lady.resync(small, lady.permute(small, 1).model, verify="none")
    start = time.perf_counter()
    result = lady.resync(reference, suspect, verify="none")
    return {"seconds": time.perf_counter() - start, "right": float(result.exact)}


def compare_matchers(python: Path, repeats: int) -> None:
    """Prints what each tool takes to put a shuffled ResNet-50 back."""
    tools = {"lady-onnx": sys.executable, "rebasin": python, "numpy and scipy": sys.executable}
    found: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    for _ in range(repeats):
        for tool, interpreter in tools.items():
            command = [interpreter, __file__, "--matching", "--tool", tool]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[tool].append(json.loads(told.splitlines()[-1]))
    least = statistics.median(f["seconds"] for f in found["lady-onnx"])
    print("| tool | median s | to lady-onnx | weights in place |\n| --- | --- | --- | --- |")
    for tool, runs in found.items():
        median = statistics.median(f["seconds"] for f in runs)
        share = min(f["right"] for f in runs)
        print(f"| {tool} | {median:.2f} | {median / least:.1f} | {share:.2%} |")


def peer(tool: str, name: str) -> None:
    """Prints one tool's figures on one network as JSON."""
    import torch

    net, inputs = network(name)
    torch.manual_seed(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            figures = {"rebasin": rebasin, "torch-pruning": torch_pruning, "lady-onnx": ours}[tool](
                net, inputs
            )
    except Exception as why:  # noqa: BLE001 (whatever a tool dies of is its figure)
        figures = {"failed": f"{type(why).__name__}: {why}".splitlines()[0][:80]}
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--env", type=Path, default=Path.home() / ".cache" / "lady-onnx" / "peers")
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pair", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--matching", action="store_true")
    parser.add_argument("--repeats", type=int, default=3, help="of each tool that matches")
    args = parser.parse_args()
    if args.file:
        print(json.dumps(measured(args.file)))
        return
    if args.pair:
        print(json.dumps(resync_pair(*args.pair)))
        return
    if args.tool and args.matching:
        with contextlib.redirect_stdout(io.StringIO()):
            figures = match(args.tool)
        print(json.dumps(figures))
        return
    if args.tool:
        peer(args.tool, args.names[0])
        return
    python = args.env / "bin" / "python"
    if not python.exists():
        venv.create(args.env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    if args.matching:
        compare_matchers(python, args.repeats)
        return
    print("| network | tool | groups | symmetry bits | seconds | outputs after a shuffle |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in args.names or NETWORKS:
        for tool, interpreter in (
            ("lady-onnx", sys.executable),
            ("torch-pruning", python),
            ("rebasin", python),
        ):
            command = [interpreter, __file__, "--tool", tool, name]
            try:
                told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
                found = (
                    json.loads(told.stdout.splitlines()[-1])
                    if told.returncode == 0
                    else {"failed": told.stderr[-80:]}
                )
            except subprocess.TimeoutExpired:
                found = {"failed": f"takes more than {PATIENCE} s"}
            if "failed" in found:
                print(f"| {name} | {tool} | fails: {found['failed']} | | | |", flush=True)
                continue
            kept = "preserved" if found["error"] < 1e-4 else f"BROKEN ({found['error']:.2g})"
            figures = f"{found['groups']} | {found['bits']:.0f} | {found['seconds']:.3f}"
            print(f"| {name} | {tool} | {figures} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
