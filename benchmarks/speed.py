"""Whole processes against the floor: `check` of a file with itself, and `resync` of copies.

    python benchmarks/speed.py [--repeats 7] [--only NAME ...] [--noise 0.1 1] [--limit 600]
                               [--python OLD ...]
    python benchmarks/speed.py --curve FILE.svg [--repeats 3]

The second draws cost over size, on language models of 1 to 1,000 million parameters, and needs the
extra `bench` as well as `test`. Every figure is of fresh Python processes, run in turn with the
floor. The floor of a network in one file imports onnx, loads both files, reads every weight once
and saves one file with fsync. That of a language model, whose weights are external data, reads both
files and writes one, in blocks. Memory is what a process has beyond the pages of files: the most
that was seen of `RssAnon` and `RssShmem`. Weights are random but for YOLOv8n's, and every copy is
shuffled; noise is in units of each weight's deviation. `--python` names interpreters of other
installations, of an older release for example, whose figures stand beside.
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
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

BLOCK_BYTES = 1 << 26
POLL_SECONDS = 0.004
"""How often the memory of a process is read."""


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


def run_streaming_floor(first: str, second: str, out: str) -> None:
    """The least that a tool does that keeps no weight: both files read, one written, in blocks."""
    import numpy as np

    for name in (first, second):
        with open(f"{name}.data", "rb") as file, open(out, "wb") as target:
            while block := file.read(BLOCK_BYTES):
                np.frombuffer(block, np.uint8).max()
                if name == second:
                    target.write(block)
            target.flush()
            os.fsync(target.fileno())


def make_resnet50(path: str) -> None:
    import onnx
    import torch

    from tests.helpers import architectures

    widths = (256, 512, 1024, 2048)
    net = architectures.ResNet(architectures.Bottleneck, (3, 4, 6, 3), widths, 64, 1000)
    picture = torch.zeros(1, 3, 224, 224)
    onnx.save(architectures.export(architectures.randomise(net), picture, dynamo=False), path)


def make_vit(path: str) -> None:
    import onnx
    import torch
    import transformers

    from tests.helpers import architectures

    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).eval()
    onnx.save(architectures.export(net, torch.zeros(1, 3, 224, 224), dynamo=False), path)


def make_wide_resnet(path: str) -> None:
    """WideResNet-28-4 of Zagoruyko and Komodakis 2016, without its dropout."""
    import onnx
    import torch

    from tests.helpers import architectures

    net = architectures.ResNet(architectures.Basic, (4, 4, 4), (64, 128, 256), 16, 10)
    picture = torch.zeros(1, 3, 64, 64)
    onnx.save(architectures.export(architectures.randomise(net), picture, dynamo=False), path)


def make_minilm(path: str) -> None:
    """The shape of MiniLM-L6, the usual encoder of sentences."""
    import onnx
    import torch
    import transformers

    from tests.helpers import architectures
    from tests.helpers.families import Wrapped

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    config = transformers.BertConfig(**sizes, attn_implementation="eager")
    encoder = transformers.BertModel(config, add_pooling_layer=False)
    net = Wrapped(encoder, "last_hidden_state", "input_ids", "attention_mask").eval()
    words = torch.ones(1, 16, dtype=torch.int64)
    onnx.save(architectures.export(net, words, words, dynamo=False), path)


def make_yolo(path: str) -> None:
    from tests.helpers import real

    Path(path).write_bytes(real.path("yolov8n").read_bytes())


def make_language_model(name: str) -> Callable[[str], None]:
    def make(path: str) -> None:
        from benchmarks.language_models import SIZES, write_language_model

        write_language_model(Path(path), SIZES[name])

    return make


MODELS: dict[str, Callable[[str], None]] = {
    "ResNet-50": make_resnet50,
    "ViT-B": make_vit,
    "WideResNet-28-4": make_wide_resnet,
    "MiniLM": make_minilm,
    "YOLOv8n": make_yolo,
    "LM 97M": make_language_model("97M"),
    "LM 338M": make_language_model("338M"),
    "LM 1160M": make_language_model("1160M"),
}
CURVE = ("1M", "2M", "5M", "10M", "20M", "50M", "100M", "200M", "500M", "1000M")
"""The language models whose cost is drawn over their size."""
MODELS |= {f"LM {name}": make_language_model(name) for name in CURVE}


def make_copies(name: str, folder: str, *noises: str) -> None:
    """Writes a reference, a shuffled copy, and that with noise; prints what the reference is."""
    import numpy as np

    import lady_onnx as lady

    reference = f"{folder}/reference.onnx"
    MODELS[name](reference)
    copy = lady.permute(reference, 1)
    copy.save(f"{folder}/shuffled.onnx")
    touched = sorted({s.initializer for g in copy.symmetry.groups for s in g.slots})
    for noise in noises:
        rng = np.random.default_rng(0)
        noisy = copy.graph.copy()
        for weight in touched:
            array = copy.graph.array(weight)
            drawn = rng.standard_normal(array.shape, np.float32)
            drawn *= np.float32(float(noise) * array.std())
            noisy.replace(weight, (array + drawn).astype(array.dtype))
        noisy.save(Path(f"{folder}/noisy{noise}.onnx"), "")
    count = sum(copy.graph.array(n).size for n in copy.graph.tensors) / 1e6
    bits = f"{copy.symmetry.symmetry_bits:.0f} symmetry bits"
    print(f"{count:.1f} M parameters, {len(copy.symmetry.groups)} groups, {bits}")


PARTS = {"floor": run_floor, "streaming": run_streaming_floor, "make": make_copies}
"""What runs in a process of its own, so that this one stays small: `--part NAME ARGUMENTS`."""


def read_anonymous_bytes(pid: int) -> int:
    """The bytes that a process has in memory beyond pages of files; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    own = [x for x in status.splitlines() if x.startswith(("RssAnon:", "RssShmem:"))]
    return sum(int(line.split()[1]) for line in own) * 1024


def run_timed(command: list[str], limit: float) -> tuple[float, float]:
    """Wall seconds of a fresh process, and the most MB of its own memory; infinite past a limit."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, read_anonymous_bytes(process.pid))
        if time.perf_counter() - start > limit:
            process.kill()
            process.wait()
            return float("inf"), peak / 1e6
        time.sleep(POLL_SECONDS)
    if process.returncode not in (0, 1):
        raise SystemExit(f"failed: {command}")
    return time.perf_counter() - start, peak / 1e6


def measure_model(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Prints the rows of one model; returns the median seconds of every job."""
    with tempfile.TemporaryDirectory() as folder:
        # compiled once, as installed packages are
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        make = [sys.executable, __file__, "--part", "make", name, folder, *args.noise]
        made = subprocess.run(make, check=True, capture_output=True, text=True).stdout.strip()
        a, b, out = (f"{folder}/{n}.onnx" for n in ("reference", "shuffled", "out"))
        floor = "streaming" if Path(f"{a}.data").exists() else "floor"
        jobs = {"floor": [sys.executable, __file__, "--part", floor, a, b, f"{folder}/floor.out"]}
        for k, python in enumerate([sys.executable, *args.python]):
            label = f" ({k})" * bool(k)
            lady = [python, "-m", "lady_onnx"]
            jobs[f"check with itself{label}"] = [*lady, "check", a, a]
            resync = ["--verify", "none", "--force", "-o", out]
            jobs[f"shuffled{label}"] = [*lady, "resync", a, b, *resync]
            for noise in args.noise:
                noisy = f"{folder}/noisy{noise}.onnx"
                jobs[f"noise {noise}{label}"] = [*lady, "resync", a, noisy, *resync]
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        peaks = dict.fromkeys(jobs, 0.0)
        # the first turn warms up; a job that ran past the limit is not tried again
        for turn in range(args.repeats + 1):
            for job, command in jobs.items():
                if seconds[job][-1:] == [float("inf")]:
                    continue
                took, peak = run_timed(command, args.limit)
                if turn or took == float("inf"):
                    seconds[job].append(took)
                peaks[job] = max(peaks[job], peak)
        print(f"| {name}: {made} | | | |")
        least = statistics.median(seconds["floor"])
        for job, runs in seconds.items():
            median = statistics.median(runs)
            figures = f"{median:.2f} | {median / least:.2f}"
            if median == float("inf"):
                figures = f"over {args.limit:.0f} | "
            print(f"| {job} | {figures} | {peaks[job]:.0f} |", flush=True)
        return {job: statistics.median(runs) for job, runs in seconds.items()}


def draw_curve(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draws seconds over parameters, both on scales of powers of ten."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    sizes = [1e6 * int(name.split()[1][:-1]) for name in found]
    for job in next(iter(found.values())):
        axes.plot(sizes, [jobs[job] for jobs in found.values()], marker="o", label=job)
    axes.plot(sizes, [z / sizes[-1] for z in sizes], ":", color="grey", label="1 ns a parameter")
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds, whole process")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    usual = [name for name in MODELS if name[3:] not in CURVE]
    parser.add_argument("--only", nargs="*", default=usual, choices=list(MODELS))
    parser.add_argument("--noise", nargs="*", default=["0.1", "1"])
    parser.add_argument("--limit", type=float, default=600, help="seconds of one process")
    parser.add_argument("--python", nargs="*", default=[])
    parser.add_argument("--curve", type=Path, help="where cost over size is drawn")
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, {args.repeats} repeats\n")
    print("| whole process | median s | to the floor | own memory, MB |")
    print("| --- | --- | --- | --- |")
    if args.curve:
        args.noise = ["0.1"]
        draw_curve(
            {name: measure_model(name, args) for name in MODELS if name[3:] in CURVE}, args.curve
        )
        return
    for name in args.only:
        measure_model(name, args)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        PARTS[sys.argv[2]](*sys.argv[3:])
    else:
        main()
