"""Whole networks as checkpoints: shuffled, found in a registry, and put back bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from lady_onnx.cli.main import main

from ..helpers import real
from ..helpers.architectures import Basic, ResNet, randomise
from ..helpers.exports import unfolded


class Plain(nn.Module):
    """A model of transformers as a function of one tensor that returns one."""

    def __init__(self, net: nn.Module, what: str):
        super().__init__()
        self.net, self.what = net, what

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = getattr(self.net(x), self.what)
        return found


def make_bert(seed: int) -> nn.Module:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=512, vocab_size=2000)
    net = transformers.BertModel(config, add_pooling_layer=False)
    return Plain(randomise(net, seed), "last_hidden_state")


def make_minilm(seed: int) -> nn.Module:
    """The trained one for seed 0; else one of its sizes."""
    config = transformers.BertConfig.from_json_file(str(real.path("minilm-config")))
    net = randomise(transformers.BertModel(config, add_pooling_layer=False), seed)
    if not seed:
        from safetensors.torch import load_file

        state = load_file(real.path("minilm"))
        left = net.load_state_dict({n.removeprefix("bert."): t for n, t in state.items()}, False)
        assert not left.missing_keys
    return Plain(net, "last_hidden_state")


def make_vit(seed: int) -> nn.Module:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = transformers.ViTConfig(**sizes, intermediate_size=256, image_size=64, patch_size=16)
    return Plain(randomise(transformers.ViTForImageClassification(config), seed), "logits")


def make_resnet(seed: int) -> nn.Module:
    return randomise(ResNet(Basic, (2, 2, 2, 2), (64, 128, 256, 512), 64, 10), seed)


WORDS, IMAGES = torch.ones(1, 8, dtype=torch.int64), torch.randn(1, 3, 64, 64)
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], Tensor]] = {
    "bert": (make_bert, WORDS),
    "minilm": (make_minilm, WORDS),
    "vit": (make_vit, IMAGES),
    "resnet18": (make_resnet, IMAGES),
}


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_a_shuffled_checkpoint_is_found_and_put_back(
    name: str,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The suspect is never exported: the graph is that of another network."""
    monkeypatch.chdir(tmp_path)
    make, x = NETWORKS[name]
    nets = {"like": make(7), "ours": make(0), "other": make(3)}
    Path("g.onnx").write_bytes(unfolded(nets["like"], x).SerializeToString())
    Path("known").mkdir()
    for kind, net in nets.items():
        path = Path("known" if kind != "like" else ".") / f"{kind}.{end}"
        state = {n: t.contiguous().clone() for n, t in net.state_dict().items()}
        if end == "pt":
            torch.save(state, path)
        else:
            save_file(state, path)
    bound = ["--graph", "g.onnx", "--like", f"like.{end}", "--ignore", "*position_ids"]
    bound += ["--ignore", "*num_batches_tracked"]
    known, upload, back = f"known/ours.{end}", f"upload.{end}", f"back.{end}"
    assert main(["registry", "add", "known", "--db", "db", *bound]) == 0
    assert main(["permute", known, "-o", upload, "--seed", "5", *bound]) == 0
    capsys.readouterr()
    assert main(["registry", "identify", upload, "--db", "db", "--json", *bound]) == 0
    best = json.loads(capsys.readouterr().out)["relatives"][0]
    assert (Path(best["path"]).name, best["verdict"]) == (f"ours.{end}", "permuted")
    assert main(["resync", known, upload, "-o", back, *bound]) == 0
    if end == "safetensors":
        assert Path(back).read_bytes() == Path(known).read_bytes()
        return
    mine, theirs = (torch.load(p, weights_only=True) for p in (known, back))
    assert all(np.array_equal(mine[n], theirs[n]) for n in mine)
    moved = torch.load(upload, weights_only=True)
    assert not all(np.array_equal(mine[n], moved[n]) for n in mine)
