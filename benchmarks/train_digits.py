"""Trains the demo's network on scikit-learn's digits: lady_onnx/data/digits.onnx, digits.npz.

    python benchmarks/train_digits.py

A convolutional classifier with BatchNorm and one residual block; a fifth of the digits are held
out. Needs the `test` extra. Seeded, so that it writes the same network again on the same machine.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

DATA = Path(__file__).parent.parent / "lady_onnx" / "data"
EPOCHS = 40


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.block = nn.Sequential(
            nn.Conv2d(32, 48, 3, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
        )
        self.down = nn.Sequential(
            nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.block(x))
        return self.head(self.down(x).mean((2, 3)))


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    x, held, y, labels = train_test_split(
        images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    net = Digits()
    optimiser = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), targets[batch]).backward()
            optimiser.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        accuracy = float((net(torch.from_numpy(held)).argmax(1).numpy() == labels).mean())
    print(f"held-out accuracy {accuracy:.4f}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 1, 8, 8),),
            str(DATA / "digits.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["digit"],
            dynamic_axes={"image": {0: "batch"}, "digit": {0: "batch"}},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    np.savez_compressed(DATA / "digits.npz", image=held, labels=labels.astype(np.int64))


if __name__ == "__main__":
    main()
