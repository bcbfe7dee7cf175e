"""Trains the networks of the paper's Table 1 that no package ships, and fine-tunes copies.

    python benchmarks/train.py [NAME ...] [--data FOLDER]

Writes NAME.onnx into the cache folder, and NAME-SHARE.onnx for every share of the training's steps
that it went on for. Held-out samples with labels go to NAME.npz. Fashion-MNIST comes from Debian's
package dataset-fashion-mnist; the codec learns from scikit-image's photographs. Needs the extras
`test` and `bench`. Seeded.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.helpers.architectures import Basic, Bottleneck, MobileNetV3, ResNet, conv_bn
from tests.helpers.codecs import VideoCodec
from tests.helpers.real import CACHE

TRAINED = CACHE / "trained"
FASHION = Path("/usr/share/datasets/fashion-mnist")
SHARES = (2, 4, 6, 8, 10, 20, 50, 100)
"""Theta: percent of the training's steps that a copy was trained further."""
BATCH = 64
HELD = 2000
"""So many samples are kept to measure the error on."""
GREY = 0.29
"""The mean of the images, from 0 for black to 1 for white."""
GARMENTS, VISIBLE = 3, 0.1
"""How many garments a scene shows, and how bright the pixels are that cover what is behind."""
SCENE_CLASSES = 11
"""Ten kinds of garments, and none."""


def vgg16() -> nn.Module:
    """VGG16 for images of 32 x 32, with BatchNorm."""
    layers: list[nn.Module] = []
    i = 1
    for count, o in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]
            i = o
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def resnet(block: type[nn.Module], counts: tuple[int, ...], widths: tuple[int, ...]) -> nn.Module:
    net = ResNet(block, counts, widths, 64, 10)
    net.stem[0][0] = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return net


class ViT(nn.Module):
    """ViT-B/32 of transformers for grey images of 64 x 64."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(image_size=64, patch_size=32, num_channels=1, num_labels=10)
        self.net = ViTForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


def mobilenet() -> nn.Module:
    """MobileNetV3-small for grey images."""
    net = MobileNetV3(16, 576, 1024, 10)
    net.stem[0] = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
    return net


class Swin(nn.Module):
    """A small Swin transformer for grey images of 28 x 28: two stages, shifted windows."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import SwinConfig, SwinForImageClassification

        sizes = {"image_size": 28, "patch_size": 2, "embed_dim": 48, "window_size": 7}
        config = SwinConfig(**sizes, num_channels=1, depths=[2, 2], num_heads=[3, 6], num_labels=10)
        self.net = SwinForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


class Segmenter(nn.Module):
    """Dilated convolutions, beside each other at the end as in DeepLabV3: a class a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 32, 3, 2), conv_bn(32, 48))
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(48, 48, 3, padding=d, dilation=d, bias=False),
                nn.BatchNorm2d(48),
                nn.ReLU(),
            )
            for d in (1, 2, 4)
        )
        self.branches = nn.ModuleList(
            nn.Conv2d(48, 32, 3, padding=d, dilation=d) for d in (1, 2, 4, 8)
        )
        self.mix = conv_bn(128, 96, 1)
        self.head = nn.Conv2d(96, 4 * SCENE_CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = x + block(x)
        x = self.head(self.mix(torch.cat([torch.relu(b(x)) for b in self.branches], 1)))
        count, _, height, width = x.shape
        # four values of a class at each place are its pixels
        x = x.view(count, SCENE_CLASSES, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(count, SCENE_CLASSES, 2 * height, 2 * width)


Data = tuple[Tensor, Tensor]
"""Samples and labels."""


def fashion(folder: Path, size: int, part: str) -> Data:
    """Images, float32 [n, 1, size, size], and labels, int64 [n]."""
    found = []
    for kind, skip in (("images-idx3", 16), ("labels-idx1", 8)):
        path = next(folder.glob(f"{part}-{kind}-ubyte*"))
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found.append(np.frombuffer(raw, np.uint8, offset=skip))
    images = torch.from_numpy(found[0].reshape(-1, 1, 28, 28).astype(np.float32) / 255 - GREY)
    if size == 32:
        images = nn.functional.pad(images, [2] * 4, value=-GREY)
    elif size != 28:
        images = nn.functional.interpolate(images, size=size)
    return images, torch.from_numpy(found[1].astype(np.int64))


def scenes(folder: Path, size: int, part: str) -> Data:
    """Images of garments that cover each other, and of every pixel its class, 0 for none.

    Returns:
        float32 [n, 1, size, size] and int64 [n, size, size].
    """
    images, labels = fashion(folder, 28, part)
    count = len(images) // GARMENTS
    canvas = torch.full((count, 1, size, size), -GREY)
    classes = torch.zeros((count, size, size), dtype=torch.int64)
    rng = np.random.default_rng(0)
    for k in range(GARMENTS * count):
        y, x = (int(v) for v in rng.integers(0, size - 28 + 1, 2))
        scene, span = k // GARMENTS, (slice(y, y + 28), slice(x, x + 28))
        shown = images[k, 0] > VISIBLE - GREY
        canvas[scene, 0][span][shown] = images[k, 0][shown]
        classes[scene][span][shown] = labels[k] + 1
    return canvas, classes


@dataclass(frozen=True)
class Task:
    """A network, the images that it takes (padded or enlarged to this size), and its training."""

    make: Callable[[], nn.Module]
    size: int
    samples: int
    epochs: int = 1
    rate: float = 0.1
    adam: bool = False
    shares: tuple[int, ...] = SHARES[:5]
    read: Callable[[Path, int, str], Data] = fashion


TASKS = {
    "resnet18": Task(
        lambda: resnet(Basic, (2, 2, 2, 2), (64, 128, 256, 512)), 56, 30000, shares=SHARES
    ),
    "vgg16-fashion": Task(vgg16, 32, 30000, rate=0.05, shares=SHARES),
    "resnet101": Task(lambda: resnet(Bottleneck, (3, 4, 23, 3), (256, 512, 1024, 2048)), 28, 30000),
    "vit-b-32": Task(ViT, 64, 20000, rate=1e-4, adam=True),
    "mobilenetv3": Task(mobilenet, 56, 30000, 3, rate=3e-3, adam=True, shares=()),
    "swin": Task(Swin, 28, 20000, 2, rate=1e-3, adam=True, shares=()),
    "segmenter": Task(Segmenter, 48, 10000, 2, 3e-3, adam=True, shares=(), read=scenes),
}


def optimiser(net: nn.Module, task: Task, rate: float) -> torch.optim.Optimizer:
    if task.adam:
        return torch.optim.AdamW(net.parameters(), rate)
    return torch.optim.SGD(net.parameters(), rate, 0.9, weight_decay=5e-4, nesterov=True)


def batches(count: int, steps: int, size: int = BATCH) -> Iterator[Tensor]:
    """So many batches of numbers below `count`, pass after pass in a new order."""
    while steps > 0:
        for batch in torch.randperm(count)[: count // size * size].split(size)[:steps]:
            yield batch
            steps -= 1


def export(net: nn.Module, path: Path, *inputs: Tensor) -> None:
    """The network as it is, BatchNorm apart."""
    net.eval()
    names = [f"input{k}" for k in range(len(inputs))]
    partial = path.with_suffix(".part")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            inputs,
            str(partial),
            dynamo=False,
            opset_version=17,
            input_names=names,
            output_names=["output"],
            dynamic_axes={n: {0: "batch"} for n in [*names, "output"]},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    partial.replace(path)
    net.train()


def save_samples(name: str, labels: Tensor, *inputs: Tensor) -> None:
    arrays = {f"input{k}": x[:HELD].numpy() for k, x in enumerate(inputs)}
    np.savez_compressed(TRAINED / f"{name}.npz", labels=labels[:HELD].numpy(), **arrays)


def run(
    name: str,
    net: nn.Module,
    steps: int,
    step: Callable[[Tensor], Tensor],
    task: Task,
    *example: Tensor,
) -> None:
    """Trains, exports, and goes on; exports again whenever a share of the steps is reached."""
    start = time.perf_counter()
    net.train()
    training = optimiser(net, task, task.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(training, task.rate, total_steps=steps)
    for batch in batches(task.samples, steps):
        training.zero_grad()
        step(batch).backward()
        training.step()
        schedule.step()
    export(net, TRAINED / f"{name}.onnx", *example)
    print(f"{name}: {steps} steps, {time.perf_counter() - start:.0f} s", flush=True)
    training = optimiser(net, task, task.rate / 10)
    done = 0
    for share in task.shares:
        for batch in batches(task.samples, steps * share // 100 - done):
            training.zero_grad()
            step(batch).backward()
            training.step()
        done = steps * share // 100
        export(net, TRAINED / f"{name}-{share}.onnx", *example)
        print(f"{name}-{share}: {time.perf_counter() - start:.0f} s", flush=True)


def classifier(name: str, task: Task, folder: Path) -> None:
    images, labels = (x[: task.samples] for x in task.read(folder, task.size, "train"))
    held, truth = task.read(folder, task.size, "t10k")
    save_samples(name, truth, held)
    net = task.make().to(memory_format=torch.channels_last)

    def step(batch: Tensor) -> Tensor:
        x, y = images[batch].to(memory_format=torch.channels_last), labels[batch]
        if torch.rand(()) < 0.5:
            x, y = x.flip(-1), y.flip(-1) if y.ndim > 1 else y
        return nn.functional.cross_entropy(net(x), y, label_smoothing=0.05)

    run(name, net, task.epochs * (task.samples // BATCH), step, task, images[:2])


def codec(name: str) -> None:
    """Predicts and codes a photograph from its neighbour, moved by some pixels."""
    from skimage import data

    photos = [
        data.astronaut(),
        data.chelsea(),
        data.coffee(),
        data.rocket(),
        data.retina(),
        data.immunohistochemistry(),
    ]
    planes = [
        torch.from_numpy(p[..., :3].astype(np.float32) / 255).permute(2, 0, 1) for p in photos
    ]
    generator = np.random.default_rng(0)

    def pairs(count: int, size: int = 64) -> tuple[Tensor, Tensor]:
        found = []
        for _ in range(count):
            plane = planes[generator.integers(len(planes))]
            y, x = (int(generator.integers(4, n - size - 4)) for n in plane.shape[1:])
            dy, dx = (int(v) for v in generator.integers(-3, 4, 2))
            found.append(
                (
                    plane[:, y : y + size, x : x + size],
                    plane[:, y + dy : y + dy + size, x + dx : x + dx + size],
                )
            )
        return torch.stack([a for a, _ in found]), torch.stack([b for _, b in found])

    now, before = pairs(64)
    save_samples(name, now, now, before)
    net = VideoCodec(64, 96, 64)
    rounded = torch.round

    def step(batch: Tensor) -> Tensor:
        x, y = pairs(len(batch) // 8)
        # rounding has no slope: the gradient passes it
        with mock.patch("torch.round", lambda v: v + (rounded(v) - v).detach()):
            return nn.functional.mse_loss(net(x, y), x)

    run(
        name, net, 400, step, Task(lambda: net, 64, 6400, rate=1e-3, adam=True), now[:2], before[:2]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*TASKS, 'dvc'])}")
    parser.add_argument("--data", type=Path, default=FASHION)
    args = parser.parse_args()
    TRAINED.mkdir(parents=True, exist_ok=True)
    for name in args.names or [*TASKS, "dvc"]:
        torch.manual_seed(0)
        if name == "dvc":
            codec(name)
        else:
            classifier(name, TASKS[name], args.data)


if __name__ == "__main__":
    main()
