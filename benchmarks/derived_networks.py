"""Networks for `derived.py`: trained models, copies with another head, stem or depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from tests.helpers.architectures import Basic, ResNet

STEPS, RATE = 12, 1e-3
"""How many steps of Adam a network is trained, and at which rate.

The copy is trained at a third of that rate.
"""
BATCH = 8


@dataclass(frozen=True)
class Pair:
    """A trained network, and a copy of a part of it that was trained on.

    Attributes:
        reference, suspect: the networks.
        ours, theirs: inputs of each.
        new: the parameters of the suspect that are no copies, by name.
    """

    reference: nn.Module
    suspect: nn.Module
    ours: Tensor
    theirs: Tensor
    new: frozenset[str]


class Bert(nn.Module):
    """A small BERT with a classifier."""

    def __init__(self, classes: int, layers: int = 4, words: int = 500):
        super().__init__()
        config = BertConfig(
            vocab_size=words,
            hidden_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=160,
            max_position_embeddings=32,
            num_labels=classes,
            attn_implementation="eager",
        )
        self.net = BertForSequenceClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


class Encoder(nn.Module):
    """A BERT without a head: it gives hidden states."""

    def __init__(self, net: Bert):
        super().__init__()
        self.net = net.net.bert

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).last_hidden_state


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder that reads its hidden states."""

    def __init__(self, encoder: nn.Module, words: int = 300):
        super().__init__()
        self.encoder = encoder
        self.embedding = nn.Embedding(words, 64)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(64, 4, 96, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(64, words)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.encoder(x)
        y = self.embedding(x % self.embedding.num_embeddings)
        for layer in self.decoder:
            y = layer(y, memory)
        return self.head(y)


class Vit(nn.Module):
    """A small vision transformer with a classifier."""

    def __init__(self, classes: int, layers: int = 4, channels: int = 3):
        super().__init__()
        config = ViTConfig(
            hidden_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=160,
            image_size=32,
            patch_size=8,
            num_channels=channels,
            num_labels=classes,
            attn_implementation="eager",
        )
        self.net = ViTForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


class Segmenter(nn.Module):
    """A head that gives a map of classes, on the stages of a residual network."""

    def __init__(self, trunk: ResNet, classes: int):
        super().__init__()
        self.stem, self.body = trunk.stem, trunk.body
        width, skip = trunk.head.in_features, trunk.body[3].body[1].out_channels
        self.lift = nn.Sequential(nn.Conv2d(width, 48, 1), nn.BatchNorm2d(48), nn.ReLU())
        self.merge = nn.Sequential(nn.Conv2d(48 + skip, 40, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(40, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for k, block in enumerate(self.body):
            x = block(x)
            if k == 3:
                skip = x
        y = nn.functional.interpolate(self.lift(x), scale_factor=4.0, mode="nearest")
        return self.last(self.merge(torch.cat([y, skip], 1)))


def make_resnet(classes: int, width: int = 64) -> ResNet:
    """Make a ResNet-18, of its full width by default."""
    return ResNet(Basic, (2, 2, 2, 2), (width, 2 * width, 4 * width, 8 * width), width, classes)


def draw_images(seed: int = 0, channels: int = 3) -> Tensor:
    return torch.randn(BATCH, channels, 32, 32, generator=torch.Generator().manual_seed(seed))


def draw_words(seed: int = 0, words: int = 300) -> Tensor:
    return torch.randint(0, words, (BATCH, 12), generator=torch.Generator().manual_seed(seed))


def train(net: nn.Module, inputs: Tensor, steps: int, rate: float, seed: int) -> nn.Module:
    """Train a network on noise: every parameter that its output depends on moves."""
    torch.manual_seed(seed)
    net.train()
    optimiser = torch.optim.Adam(net.parameters(), rate)
    with torch.no_grad():
        goal = torch.randn_like(net(inputs))
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.mse_loss(net(inputs), goal).backward()
        optimiser.step()
    return net.eval()


def load_shared(net: nn.Module, other: nn.Module) -> frozenset[str]:
    """Give a network the parameters that it shares with another; return the others' names."""
    known, own = other.state_dict(), net.state_dict()
    shared = {n: t for n, t in known.items() if n in own and own[n].shape == t.shape}
    net.load_state_dict(shared, strict=False)
    return frozenset(own.keys() - shared.keys())
