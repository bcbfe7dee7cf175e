"""PyTorch modules in memory come back, and stay modules."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from lady_onnx.converters.modules import resync_modules

import lady_onnx as lady

from ..helpers.architectures import Basic, ResNet, randomise


def make(seed: int = 0) -> torch.nn.Module:
    return randomise(ResNet(Basic, (1, 1), (8, 12), 8, 5), seed)


def shuffle(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with the units of one layer in another order, done by hand."""
    other = copy.deepcopy(module)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    block = other.body[0].body
    with torch.no_grad():
        first, second = block[0][0], block[1]
        first.weight.copy_(first.weight[order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(block[0][1], name)
            tensor.copy_(tensor[order])
        second.weight.copy_(second.weight[:, order])
    return other


def test_a_shuffled_module_comes_back() -> None:
    reference = make().train()
    suspect = shuffle(reference)
    x = torch.randn(2, 3, 32, 32)
    before = {n: t.clone() for n, t in suspect.state_dict().items()}
    found = resync_modules(reference, suspect, x)
    assert found.resync.verdict == "permuted"
    assert found.resync.moved > 0
    state = found.module.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in reference.state_dict().items())
    # neither is changed, nor the mode of one
    assert all(torch.equal(t, before[n]) for n, t in suspect.state_dict().items())
    assert reference.training


def test_an_altered_module_comes_back_altered() -> None:
    reference = make()
    suspect = shuffle(reference)
    with torch.no_grad():
        for parameter in suspect.parameters():
            parameter += 0.01 * torch.randn(parameter.shape)
    found = resync_modules(reference, suspect, torch.randn(2, 3, 32, 32))
    assert found.resync.verdict == "altered"
    state = found.module.state_dict()
    for name, tensor in reference.named_parameters():
        assert np.allclose(state[name], tensor.detach(), atol=0.1), name


def test_modules_of_other_classes_are_refused() -> None:
    other = torch.nn.Linear(3, 2)
    with pytest.raises(lady.LadyError, match="tensor"):
        resync_modules(make(), other, torch.randn(2, 3, 32, 32))


def test_a_module_that_cannot_be_exported() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(x)[0]

    with pytest.raises(lady.LadyError, match="Odd: cannot be exported"):
        resync_modules(Odd(), Odd(), torch.randn(3, 3))
