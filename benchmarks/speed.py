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

ROOT = Path(__file__).parent.parent

FLOOR = """
import os, sys, onnx
from onnx import numpy_helper
a, b, out = sys.argv[1:]
models = [onnx.load(a), onnx.load(b)]
for model in models:
    for tensor in model.graph.initializer:
        numpy_helper.to_array(tensor).sum()
with open(out, "wb") as file:
    file.write(models[0].SerializeToString())
    file.flush()
    os.fsync(file.fileno())
"""

MAKE = """
import sys, numpy as np, onnx, torch, lady_onnx as lady
from tests.helpers import architectures as arch
a, b, c, noise = *sys.argv[1:4], float(sys.argv[4])
net = arch.randomise(arch.ResNet(arch.Bottleneck, (3, 4, 6, 3), (256, 512, 1024, 2048), 64, 1000))
onnx.save(arch.export(net, torch.zeros(1, 3, 224, 224), dynamo=False), a)
shuffled = lady.permute(a, 1)
shuffled.save(b)
rng = np.random.default_rng(0)
for name in sorted({s.initializer for g in shuffled.symmetry.groups for s in g.slots}):
    w = shuffled.graph.array(name)
    noisy = w + noise * w.std() * rng.standard_normal(w.shape, np.float32)
    shuffled.graph.replace(name, noisy.astype(w.dtype))
shuffled.save(c)
count = sum(p.numel() for p in net.parameters()) / 1e6
symmetry = shuffled.symmetry
found = f"{len(symmetry.groups)} groups, {symmetry.symmetry_bits:.0f} symmetry bits"
print(f"{count:.1f} M parameters, {found}")
"""

PRODUCTS = """
import sys, time, numpy as np, lady_onnx as lady
from lady_onnx.graph.loading import load_graph as load
a, b = (load(f) for f in sys.argv[1:])
pairs = []
for group in lady.find_groups(a).groups:
    for slot in group.slots:
        weights = (np.moveaxis(g.array(slot.initializer), slot.axis, 0) for g in (a, b))
        pairs.append([w.reshape(group.size, -1) for w in weights])
best = 1e9
for _ in range(3):
    start = time.perf_counter()
    for x, y in pairs:
        x @ y.T
    best = min(best, time.perf_counter() - start)
print(f"{best:.2f}")
"""


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


def script(text: str, *arguments: str) -> str:
    """What a small program prints, run in a process of its own so that this one stays small."""
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


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
        made = script(MAKE, a, b, c, str(args.noise))
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        print(f"{machine}, Python {platform.python_version()}; {made}")
        resync = ["-m", "lady_onnx", "resync", a]
        rows: list[tuple[str, list[str], str | None]] = [
            ("floor: import, load two, read, save", ["-c", FLOOR, a, b, out], None),
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
            plain = script(PRODUCTS, a, other) if other else ""
            seconds = f"{least:.2f} | {median:.2f} | {median / floor:.2f}"
            print(f"| {name:38} | {seconds} | {peak:.0f} | {plain} |", flush=True)


if __name__ == "__main__":
    main()
