"""Times `groups` and `resync` on a model of ResNet-50's size against the floor, in one run.

    python benchmarks/speed.py [--repeats 5] [--noise 0.1]

Needs the `test` extra. Weights are random. Every row is a fresh Python process, its wall time and
peak memory. The floor imports onnx, loads both files, reads every weight once and saves one file
with fsync. The last column is the similarity matrices alone, as plain numpy matrix products of the
weights in memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def run_floor(first: str, second: str, out: str) -> None:
    """The least that any tool does: both files loaded, every weight read, one file saved."""
    import onnx
    from onnx import numpy_helper

    models = [onnx.load(first), onnx.load(second)]
    for model in models:
        for tensor in model.graph.initializer:
            numpy_helper.to_array(tensor).sum()
    with open(out, "wb") as file:
        file.write(models[0].SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def make_models(reference: str, shuffled: str, noisy: str, noise: str) -> None:
    """Writes the reference, a shuffled copy, and that with noise; prints what the reference is."""
    import numpy as np
    import onnx
    import torch

    import lady_onnx as lady
    from tests.helpers import architectures

    widths = (256, 512, 1024, 2048)
    net = architectures.ResNet(architectures.Bottleneck, (3, 4, 6, 3), widths, 64, 1000)
    net = architectures.randomise(net)
    picture = torch.zeros(1, 3, 224, 224)
    onnx.save(architectures.export(net, picture, dynamo=False), reference)
    copy = lady.permute(reference, 1)
    copy.save(shuffled)
    rng = np.random.default_rng(0)
    for name in sorted({s.initializer for g in copy.symmetry.groups for s in g.slots}):
        weight = copy.graph.array(name)
        drawn = float(noise) * weight.std() * rng.standard_normal(weight.shape, np.float32)
        copy.graph.replace(name, (weight + drawn).astype(weight.dtype))
    copy.save(noisy)
    count = sum(p.numel() for p in net.parameters()) / 1e6
    bits = f"{copy.symmetry.symmetry_bits:.0f} symmetry bits"
    print(f"{count:.1f} M parameters, {len(copy.symmetry.groups)} groups, {bits}")


def time_products(reference: str, suspect: str) -> None:
    """Prints the least seconds of three that the similarity matrices of all groups take."""
    import numpy as np

    import lady_onnx as lady
    from lady_onnx.graph.loading import load_graph

    graphs = [load_graph(reference), load_graph(suspect)]
    pairs = []
    for group in lady.find_groups(graphs[0]).groups:
        for slot in group.slots:
            weights = (np.moveaxis(g.array(slot.initializer), slot.axis, 0) for g in graphs)
            pairs.append([w.reshape(group.size, -1) for w in weights])
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for x, y in pairs:
            x @ y.T
        seconds.append(time.perf_counter() - start)
    print(f"{min(seconds):.2f}")


PARTS = {"floor": run_floor, "make": make_models, "products": time_products}
"""What runs in a process of its own, so that this one stays small: `--part NAME FILES`."""


def timed(command: list[str], repeats: int) -> tuple[float, float, float]:
    """Least and median wall seconds, and the peak MB, of fresh processes after one warm-up."""
    seconds, peak = [], 0
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    for _ in range(repeats + 1):
        start = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable, [sys.executable, *command], os.environ, file_actions=quiet
        )
        _, status, usage = os.wait4(pid, 0)
        seconds.append(time.perf_counter() - start)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"failed: {command}")
        peak = max(peak, usage.ru_maxrss)
    return min(seconds[1:]), statistics.median(seconds[1:]), peak / 1024


def run_part(*arguments: str) -> str:
    """What a part prints."""
    command = [sys.executable, __file__, "--part", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--noise",
        type=float,
        default=0.1,
        help="of the noisy suspect, in units of each tensor's deviation",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a, b, c, out = (
            str(Path(folder) / f"{n}.onnx") for n in ("reference", "shuffled", "noisy", "out")
        )
        made = run_part("make", a, b, c, str(args.noise))
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        print(f"{machine}, Python {platform.python_version()}; {made}")
        resync = ["-m", "lady_onnx", "resync", a]
        rows: list[tuple[str, list[str], str | None]] = [
            ("floor: import, load two, read, save", [__file__, "--part", "floor", a, b, out], None),
            ("groups", ["-m", "lady_onnx", "groups", a, "--json"], None),
            ("resync --verify none, shuffled copy", [*resync, b, "-o", out, "--verify", "none"], b),
            ("resync --verify none, noisy copy", [*resync, c, "-o", out, "--verify", "none"], c),
            ("resync, shuffled copy", [*resync, b, "-o", out], b),
        ]
        columns = "min s | median s | to the floor | peak MB | matrix products s"
        print(f"\n| {'whole process':38} | {columns} |")
        print("| --- | --- | --- | --- | --- | --- |")
        floor = None
        for name, command, other in rows:
            least, median, peak = timed(command, args.repeats)
            floor = floor or median
            plain = run_part("products", a, other) if other else ""
            seconds = f"{least:.2f} | {median:.2f} | {median / floor:.2f}"
            print(f"| {name:38} | {seconds} | {peak:.0f} | {plain} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        PARTS[sys.argv[2]](*sys.argv[3:])
    else:
        main()
