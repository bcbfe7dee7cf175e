"""Marks that are trained into a model, while it does its task.

Needs the extras `torch` and `watermark`. Three schemes are made for training:

- `uchida`: a part of the loss pulls the products of the mean unit to their sides.
- `tartaglione`: the marked weights stay fixed. A replica of the network, in which they are altered
  at random, is trained to be bad.
- `watermas`, a reconstruction: the marked weights stay fixed. The replica has them altered in the
  direction in which the loss grows fastest.

Sources: see `lady_onnx.watermark.schemes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import Model, load_graph
from lady_onnx.watermark.embedding import Marked, Plan, plan_mark
from lady_onnx.watermark.records import Commitment
from lady_onnx.watermark.schemes.interface import find_scheme
from lady_onnx.watermark.schemes.positions import draw_positions, measure_size
from lady_onnx.watermark.schemes.uchida import draw_matrix
from lady_onnx.watermark.secrets.keys import Key

from .pytorch import LEARNING_RATE, Network, Pull, finetune

TRAINED_SCHEMES = ("uchida", "tartaglione", "watermas")
"""The schemes that are made for training."""
PULL_WEIGHT = 1.0
"""How much Uchida's part of the loss counts beside the task."""
SLOPE = 4.0
"""The log-odds of a bit whose product has the wanted size."""
REPLICA_WEIGHT = 0.1
"""How much the loss of the replica counts, against that of the task."""
MAX_REPLICA_LOSS = 5.0
"""A replica of a larger loss is bad enough."""
RADIUS = 0.5
"""By how much a replica's marked weights are altered, in units of their layer's size."""


def train_mark(  # noqa: PLR0913 - people call it, each argument by its name
    model: Model,
    key: Key,
    payload: bytes | Commitment,
    data: Mapping[str, np.ndarray],
    passes: float,
    *,
    scheme: str = "uchida",
    strength: float | None = None,
    rate: float = LEARNING_RATE,
    seed: int = 0,
) -> Marked:
    """Train a mark into a model, while it goes on learning its task.

    Args:
        model: a path or a model, whose first output is learned.
        key: the owner's key.
        payload: 1 to 64 bytes, or a commitment, whose hash is written.
        data: samples by the inputs' names, first axis the sample, and `labels`; see `finetune`.
        passes: how often all samples are seen; 0.1 for a tenth of them.
        scheme: one of `TRAINED_SCHEMES`.
        strength: how strongly, in the scheme's own measure; its usual one by default.
        rate: the learning rate.
        seed: the seed of the samples' order, and of what is random in replicas.

    Returns:
        The marked model, and what is needed beside the key to read the mark.

    Raises:
        LadyError: the model has no room for the payload, cannot be trained, or needs more passes
            until all bits are written.
    """
    graph = load_graph(model)
    if scheme not in TRAINED_SCHEMES:
        what = f"scheme '{scheme}' is written without training; one of {', '.join(TRAINED_SCHEMES)}"
        raise LadyError(f"{graph.name}: {what} is trained")
    plan = plan_mark(graph, key, payload, scheme, strength)
    if scheme == "uchida":
        trained = finetune(graph, data, passes, rate=rate, seed=seed, pull=_UchidaPull(plan)).graph
    else:
        way, keys = find_scheme(scheme), plan.key.derive_layer_key
        held = way.embed(plan.weights, plan.mark.layers, keys, plan.bits, plan.mark.strength)
        begun = graph.copy()
        for name, array in held.items():
            begun.replace(name, array)
        pull = _FixedPull(plan, held, scheme == "watermas")
        trained = finetune(begun, data, passes, rate=rate, seed=seed, pull=pull).graph
    found = {n: trained.array(n) for n in trained.tensors}
    changed = {n: a for n, a in found.items() if not np.array_equal(a, graph.array(n))}
    return plan.finish(changed)


class _UchidaPull(Pull):
    """Pulls the products of the mean unit to their sides."""

    def __init__(self, plan: Plan):
        (self._layer,) = plan.mark.layers
        matrix = draw_matrix(self._layer, plan.key.derive_layer_key, len(plan.bits))
        self._matrix = torch.from_numpy(matrix).float()
        self._bits = torch.from_numpy(plan.bits).float()
        self._strength = plan.mark.strength

    def add_gradients(self, net: Network, compute_loss: Callable[[], Tensor]) -> None:
        weight = net.learned[self._layer.name]
        # products in units of what noise as large as the weights makes of them, as in `uchida`
        size = weight.detach().norm() / weight.shape[self._layer.axis]
        products = self._matrix @ weight.mean(self._layer.axis).flatten() / size
        odds = SLOPE * products / self._strength
        loss = F.binary_cross_entropy_with_logits(odds, self._bits)
        (PULL_WEIGHT * loss).backward()


class _FixedPull(Pull):
    """Holds the marked weights, and trains replicas in which they are altered to be bad."""

    def __init__(self, plan: Plan, held: Mapping[str, np.ndarray], is_steepest: bool):
        self._is_steepest = is_steepest
        drawn = draw_positions(plan.mark.layers, plan.key.derive_layer_key, len(plan.bits))
        self._places = {n: torch.from_numpy(p.places) for n, p in drawn.items()}
        self._values = {
            n: torch.from_numpy(held[n].reshape(-1)[p.places].copy()) for n, p in drawn.items()
        }
        self._sizes = {n: measure_size(np.asarray(held[n])) for n in drawn}

    def add_gradients(self, net: Network, compute_loss: Callable[[], Tensor]) -> None:
        steps = {n: self._alter(n, net.learned[n]) for n in self._places}
        with torch.no_grad():
            for name, step in steps.items():
                net.learned[name].view(-1)[self._places[name]] += step
        loss = compute_loss()
        if loss.item() < MAX_REPLICA_LOSS:
            (-REPLICA_WEIGHT * loss).backward()
        with torch.no_grad():
            for name, step in steps.items():
                net.learned[name].view(-1)[self._places[name]] -= step

    def _alter(self, name: str, weight: Tensor) -> Tensor:
        """Return by what the marked weights of a layer are altered in the replica."""
        places = self._places[name]
        if self._is_steepest and weight.grad is not None:
            direction = weight.grad.view(-1)[places].sign()
        else:
            direction = torch.randn(len(places))
        return RADIUS * self._sizes[name] * direction

    def hold_weights(self, net: Network) -> None:
        for name, places in self._places.items():
            net.learned[name].view(-1)[places] = self._values[name]
