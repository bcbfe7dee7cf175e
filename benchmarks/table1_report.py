"""The file of `table1`, what stands in it, and how it is printed and drawn."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.train import SHARES

HERE = Path(__file__).parent
RESULTS = HERE / "table1.csv"
FIELDS = (
    *("model", "mode", "attack", "value", "groups", "units", "psi", "worst", "worst_group"),
    *("estimate", "algorithm1", "oracle", "norms", "trigger", "paper", "metric", "untouched"),
    "seconds",
)


@dataclass(frozen=True)
class Model:
    """A network in the place of the paper's."""

    paper: str
    what: str
    shipped: str | None = None
    metric: str | None = None


MODELS = {
    "vgg16-fashion": Model("VGG16", "VGG16, trained here on Fashion-MNIST", metric="accuracy"),
    "resnet18": Model("ResNet18", "ResNet-18, trained here on Fashion-MNIST", metric="accuracy"),
    "open-nsfw": Model("ResNet50", "thin ResNet-50, trained (opennsfw)", "open-nsfw"),
    "resnet101": Model("ResNet101", "ResNet-101, trained here on Fashion-MNIST", metric="accuracy"),
    "vit-b-32": Model("ViT-B/32", "ViT-B/32, trained here on Fashion-MNIST", metric="accuracy"),
    "ppocr-cls": Model("MobileNetV3", "MobileNetV3 classifier, trained (PP-OCR)", "ppocr-cls"),
    "ppocr-det": Model("DeepLabV3", "DBNet segmentation, trained (PP-OCR)", "ppocr-det"),
    "yolov8n": Model("YOLOv5n", "YOLOv8n detector, trained (nudenet)", "yolov8n"),
    "dvc": Model("DVC", "DVC-like video codec, trained here on photographs", metric="mse"),
}
ATTACKS = {
    "noise": ("Gaussian noise", (0, 1, 2, 7, 10)),
    "quantize": ("Quantization", (16, 8, 6, 4, 2)),
    "prune": ("Magnitude pruning", (91, 95, 98, 99)),
    "finetune": ("Fine-tuning", SHARES),
}


def published() -> dict[tuple[str, str, float], float]:
    """The paper's figures by attack, value and model."""
    with (HERE / "table1-paper.csv").open() as file:
        return {
            (r["attack"], r["model"], float(r["value"])): float(r["psi_percent"])
            for r in csv.DictReader(file)
        }


def read() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open() as file:
        return list(csv.DictReader(file))


def write(rows: Sequence[Mapping[str, object]]) -> None:
    with RESULTS.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        table.writerows(rows)


def tables(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints a table a mode.

    In every cell stand the paper's Psi, Algorithm 1's here, this project's, and the task's metric.
    """
    for mode in ("aimed", "all", "tuned"):
        own = [r for r in rows if r["mode"] == mode]
        if not own:
            continue
        names = [n for n in MODELS if any(r["model"] == n for r in own)]
        print(f"\n### {mode}\n\n| attack | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
        for kind, (title, values) in ATTACKS.items():
            for value in values:
                cells = []
                for name in names:
                    found = [
                        r
                        for r in own
                        if (r["model"], r["attack"], r["value"]) == (name, kind, f"{value:g}")
                    ]
                    cells.append(
                        " / ".join(
                            found[0][f] or "-" for f in ("paper", "algorithm1", "psi", "metric")
                        )
                        if found
                        else ""
                    )
                if any(cells):
                    print(f"| {title} {value:g} | {' | '.join(cells)} |")


def summary(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints the worst cells, and how far the estimate is from the truth where that is below 99."""
    low = [r for r in rows if float(r["psi"]) < 100]
    print(
        "\ncells below 100: "
        + "; ".join(
            f"{r['model']} {r['mode']} {r['attack']} {r['value']}: {r['psi']} "
            f"(worst group {r['worst']})"
            for r in low
        )
    )
    worse = [r for r in rows if float(r["psi"]) < float(r["algorithm1"])]
    print(f"cells below Algorithm 1: {len(worse)} of {len(rows)}")
    gaps = [abs(float(r["estimate"]) - float(r["psi"])) for r in rows if float(r["psi"]) < 99]
    error = f"{np.mean(gaps) if gaps else 0:.2f}"
    print(f"psi_estimate, mean absolute error over {len(gaps)} cells below 99: {error}")


def curves(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Psi, and the error in red, against each attack's strength, where the task has data."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "table1"
    names = [n for n, m in MODELS.items() if m.metric and any(r["model"] == n for r in rows)]
    lines = (
        ("all", "psi", "this project, all layers", "tab:blue", "-"),
        ("all", "algorithm1", "Algorithm 1, all layers", "tab:gray", "-"),
        ("aimed", "psi", "this project, aimed layer", "tab:blue", ":"),
        ("aimed", "norms", "ranking by norm, aimed layer", "tab:orange", ":"),
        ("tuned", "psi", "this project", "tab:blue", "-"),
        ("tuned", "algorithm1", "Algorithm 1", "tab:gray", "-"),
    )
    figure, grid = pyplot.subplots(
        len(names), len(ATTACKS), figsize=(16, 3 * len(names)), squeeze=False
    )
    for name, line in zip(names, grid, strict=True):
        for (kind, (title, values)), axes in zip(ATTACKS.items(), line, strict=True):
            other = axes.twinx()
            for mode, field, label, colour, style in lines:
                found = {
                    float(r["value"]): r
                    for r in rows
                    if (r["model"], r["attack"], r["mode"]) == (name, kind, mode)
                }
                shown = [v for v in values if v in found and found[v][field]]
                places = [values.index(v) for v in shown]
                if shown:
                    axes.plot(
                        places,
                        [float(found[v][field]) for v in shown],
                        style,
                        color=colour,
                        label=label,
                        marker=".",
                    )
                    if field == "psi" and mode != "aimed":
                        other.plot(
                            places,
                            [float(found[v]["metric"]) for v in shown],
                            color="tab:red",
                            marker=".",
                        )
            axes.set(
                title=f"{name}: {title}",
                ylim=(-3, 103),
                xticks=range(len(values)),
                xticklabels=values,
            )
            axes.set_ylabel("Psi, percent", color="tab:blue")
            other.set_ylabel(
                "error, percent" if MODELS[name].metric == "accuracy" else "error", color="tab:red"
            )
            if kind == "noise":
                axes.legend(fontsize=7, loc="center left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
