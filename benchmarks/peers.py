"""lady-onnx beside rebasin and torch-pruning, on the same PyTorch modules.

    python benchmarks/peers.py [--env FOLDER] [NAME ...]

Compares groups, symmetry bits, seconds and soundness. The peers run in a virtual environment of
their own, which the command makes. Seconds are the least of five runs or more, imports and loading
excluded: `find_groups` on a loaded ONNX graph; rebasin's initialisation of its permutations;
torch-pruning's dependency graph and all its groups. Each tool's groups are then shuffled at random,
by rebasin's own means or along the indices that torch-pruning couples, and the outputs compared.
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
    args = parser.parse_args()
    if args.file:
        print(json.dumps(measured(args.file)))
        return
    if args.tool:
        peer(args.tool, args.names[0])
        return
    python = args.env / "bin" / "python"
    if not python.exists():
        venv.create(args.env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
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
