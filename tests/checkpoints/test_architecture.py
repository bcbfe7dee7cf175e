"""Checkpoints in place of models: bound by values, and written back bit for bit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.numpy import load_file, save_file

import lady_onnx as lady
from lady_onnx.checkpoints.architecture import Architecture
from lady_onnx.checkpoints.binding import bind_weights
from lady_onnx.checkpoints.files import read_checkpoint
from lady_onnx.cli.main import main
from lady_onnx.errors import LadyError

from ..helpers.architectures import Basic, ResNet, export, randomise
from ..helpers.builders import build
from ..helpers.law import examples

Tensors = dict[str, np.ndarray]


def network(seed: int) -> tuple[onnx.ModelProto, Tensors]:
    """Attention with q, k and v in one weight, a packed one, and its checkpoint as PyTorch has it.

    A linear layer of PyTorch has outputs first, and the graph has inputs first.
    """
    rng = np.random.default_rng(seed)
    tensors = {
        **{f"{n}.weight": rng.standard_normal((12, 8)) / 3 for n in "qkv"},
        **{f"{n}.bias": rng.standard_normal(12) for n in "qkv"},
        "packed": rng.standard_normal((2 * 16, 12)) / 3,
        "out.weight": rng.standard_normal((5, 16)) / 4,
        "out.bias": rng.standard_normal(5),
    }
    found = {n: a.astype(np.float32) for n, a in tensors.items()}
    arrays = {
        "qkv": np.concatenate([found[f"{n}.weight"].T for n in "qkv"], 1),
        "qkv_b": np.concatenate([found[f"{n}.bias"] for n in "qkv"]),
        "gate": found["packed"][:16].T,
        "up": found["packed"][16:].T,
        "last": found["out.weight"].T,
        "last_b": found["out.bias"],
    }
    nodes = [
        helper.make_node("MatMul", ["x", "qkv"], ["a"]),
        helper.make_node("Add", ["a", "qkv_b"], ["b"]),
        helper.make_node("Split", ["b"], ["q", "k", "v"], axis=-1, num_outputs=3),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "gate"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["sg"]),
        helper.make_node("MatMul", ["h", "up"], ["u"]),
        helper.make_node("Mul", ["sg", "u"], ["m"]),
        helper.make_node("MatMul", ["m", "last"], ["o"]),
        helper.make_node("Add", ["o", "last_b"], ["out"]),
    ]
    return build(nodes, arrays, {"x": [1, 6, 8]}, opset=18), found


def save(tensors: Tensors, path: Path) -> Path:
    """Write a checkpoint in the format that its name says."""
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    elif path.suffix == ".pt":
        torch.save({n: torch.from_numpy(np.array(a)) for n, a in tensors.items()}, path)
    elif path.suffix in (".h5", ".keras"):
        raw = io.BytesIO()
        with h5py.File(raw, "w") as file:
            file.attrs["keras_version"] = "3.0"
            for name, array in tensors.items():
                file[f"layers/{name}"] = array
        if path.suffix == ".h5":
            path.write_bytes(raw.getvalue())
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("config.json", "{}")
                archive.writestr("model.weights.h5", raw.getvalue())
    elif path.suffix == ".json":
        names = list(tensors)
        shards = {
            n: f"{path.name[: -len('.safetensors.index.json')]}-{k % 2}.safetensors"
            for k, n in enumerate(names)
        }
        for shard in set(shards.values()):
            own = {n: tensors[n] for n in names if shards[n] == shard}
            save_file(own, path.parent / shard, metadata={"format": "pt"})
        path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    else:
        save_file(tensors, path, metadata={"format": "pt"})
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model, tensors = network(0)
    onnx.save(model, "g.onnx")
    save(tensors, Path("like.safetensors"))
    return tmp_path


NAMES = ["a.safetensors", "a.npz", "a.pt", "a.safetensors.index.json", "a.weights.h5", "a.keras"]


@pytest.mark.parametrize("name", NAMES)
def test_a_shuffled_checkpoint_comes_back_bit_for_bit(folder: Path, name: str) -> None:
    is_keras = name.endswith((".h5", ".keras"))
    like = save(network(0)[1], folder / name.replace("a.", "like."))
    architecture = Architecture("g.onnx", like)
    model, tensors = network(1)
    first = architecture.load(save(tensors, folder / name))
    for weight, array in ((t.name, numpy_helper.to_array(t)) for t in model.graph.initializer):
        assert np.array_equal(first.graph.array(weight), array)
    shuffled = lady.permute(first.graph, 1)
    other = name.replace("a.", "b.")
    architecture.save(shuffled.graph, first.checkpoint, other)
    suspect = architecture.load(other)
    # Keras' files have folders
    tensors = {f"layers/{n}" if is_keras else n: a for n, a in tensors.items()}
    moved = suspect.checkpoint.tensors
    assert set(moved) == set(tensors)
    assert not all(np.array_equal(moved[n], a) for n, a in tensors.items())
    found = lady.resync(first.graph, suspect.graph, verify="run")
    assert (found.verdict, found.outputs_preserved) == ("permuted", True)
    architecture.save(found.graph, suspect.checkpoint, name.replace("a.", "c."))
    back = read_checkpoint(Path(name.replace("a.", "c."))).tensors
    assert all(np.array_equal(back[n], a) and back[n].dtype == a.dtype for n, a in tensors.items())
    if is_keras or name.endswith(".safetensors"):
        assert (folder / name.replace("a.", "c.")).read_bytes() == (folder / name).read_bytes()


CONFIG = {
    "layers": [
        {"activation": "relu", "dtype": {"shared_object_id": 139}},
        {"shared_object_id": 139},
    ],
    "compile_config": {"optimizer": "adam"},
}
MOVED = [{"activation": "relu", "dtype": {"shared_object_id": 7}}, {"shared_object_id": 7}]
APART = [{"activation": "relu", "dtype": {"shared_object_id": 7}}, {"shared_object_id": 8}]
TANH = [{"activation": "tanh", "dtype": {"shared_object_id": 139}}, {"shared_object_id": 139}]
CONFIGS: list[tuple[dict[str, Any], bool]] = [
    ({"config.json": CONFIG, "metadata.json": {"date_saved": "later"}}, True),
    ({"config.json": {"layers": MOVED}}, True),
    ({"config.json": {"layers": APART}}, False),
    ({"config.json": {"layers": TANH}}, False),
    ({"config.json": CONFIG, "assets/words": "a, b"}, False),
    ({}, True),
]
"""Files of an archive, and whether Keras makes the same model of them."""


@pytest.mark.parametrize(("members", "is_same"), CONFIGS)
def test_an_archive_of_keras_with_other_layers_is_refused(
    folder: Path, members: dict[str, Any], is_same: bool
) -> None:
    tensors = network(0)[1]

    def write(name: str, members: dict[str, Any]) -> Path:
        weights = save(tensors, folder / "w.h5").read_bytes()
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("model.weights.h5", weights)
            for member, value in members.items():
                archive.writestr(member, json.dumps(value))
        return folder / name

    architecture = Architecture("g.onnx", write("like.keras", {"config.json": CONFIG}))
    suspect = write("b.keras", members)
    is_refused = pytest.raises(LadyError, match=rf"{suspect.name}: .* differs from that of .*like")
    with contextlib.nullcontext() if is_same else is_refused:
        architecture.load(suspect)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (lambda file: file.attrs.update(keras_version="4", training_config="x"), True),
        (lambda file: file.attrs.update(layer_names=["b", "a"]), False),
        (lambda file: file["layers"].attrs.update(weight_names=["b"]), False),
        (lambda file: file.attrs.update(model_config=json.dumps({"layers": APART})), False),
        (lambda file: file.create_dataset("words", data=["a"]), False),
        (lambda file: file.__setitem__("more", h5py.SoftLink("/layers")), False),
    ],
)
def test_a_file_of_keras_that_names_its_arrays_otherwise_is_refused(
    folder: Path, change: Callable[[Any], None], is_same: bool
) -> None:
    like, suspect = (save(network(0)[1], folder / f"{n}.h5") for n in ("like", "b"))
    for path in (like, suspect):
        with h5py.File(path, "r+") as file:
            file.attrs["layer_names"] = ["a", "b"]
            file.attrs["model_config"] = json.dumps(CONFIG)
    with h5py.File(suspect, "r+") as file:
        change(file)
    architecture = Architecture("g.onnx", like)
    is_refused = pytest.raises(LadyError, match=rf"{suspect.name}: .* differs from that of .*like")
    with contextlib.nullcontext() if is_same else is_refused:
        architecture.load(suspect)


def test_torch_computes_the_same_from_a_shuffled_state(tmp_path: Path) -> None:
    def make(seed: int) -> torch.nn.Module:
        return randomise(ResNet(Basic, (1, 1), (8, 12), 8, 5), seed).eval()

    x, first, second = torch.randn(2, 3, 32, 32), make(0), make(1)
    torch.save(first.state_dict(), tmp_path / "like.pt")
    torch.save(second.state_dict(), tmp_path / "a.pt")
    model = export(first, x, dynamo=False, **{})
    # weights as they are, without norms folded into them
    from ..helpers.exports import unfolded

    model = unfolded(first, x)
    architecture = Architecture(model, tmp_path / "like.pt")
    bound = architecture.load(tmp_path / "a.pt")
    shuffled = lady.permute(bound.graph, 1)
    architecture.save(shuffled.graph, bound.checkpoint, tmp_path / "b.pt")
    moved = make(2)
    moved.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    with torch.no_grad():
        assert torch.allclose(moved(x), second(x), rtol=1e-4, atol=1e-5)
    state = second.state_dict()
    assert any(not torch.equal(t, state[n]) for n, t in moved.state_dict().items())


@examples(60)
@given(st.integers(0, 2**32))
def test_weights_are_found_in_any_layout(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors, weights = {}, {}
    for k in range(6):
        shape = tuple(int(n) for n in rng.integers(2, 7, rng.integers(2, 5)))
        array = rng.standard_normal(shape).astype(np.float32)
        tensors[f"t{k}"] = array
        turned = array.transpose(rng.permutation(len(shape)))
        weights[f"w{k}"] = turned.reshape(-1, turned.shape[-1]) if rng.random() < 0.5 else turned
    rows = [rng.standard_normal((int(rng.integers(3, 9)), 9)).astype(np.float32) for _ in range(3)]
    tensors |= {f"r{k}": r for k, r in enumerate(rows)}
    joined = np.concatenate(rows)
    weights["joined"] = joined.T if rng.random() < 0.5 else joined
    whole = rng.standard_normal((12, 7)).astype(np.float32)
    tensors["whole"] = whole
    weights |= {"head": whole[:5].T, "tail": whole[5:]}
    found = bind_weights(weights, tensors, list(weights))
    # the same rule holds for other values
    others = {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in tensors.items()}
    read = {n: found[n].read(others, a.shape) for n, a in weights.items()}
    written = {n: np.zeros_like(a) for n, a in others.items()}
    for n, array in read.items():
        assert array.shape == weights[n].shape
        for _, view, values in found[n].list_views(written, array):
            view[...] = values
    assert all(np.array_equal(written[n], a) for n, a in others.items())
    for n, array in weights.items():
        assert np.array_equal(found[n].read(tensors, array.shape), array)


def test_other_types_are_read_and_written(folder: Path) -> None:
    architecture = Architecture("g.onnx", "like.safetensors")
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        tensors = {n: a.astype(dtype) for n, a in network(1)[1].items()}
        bound = architecture.load(save(tensors, folder / "a.safetensors"))
        shuffled = lady.permute(bound.graph, 1)
        architecture.save(shuffled.graph, bound.checkpoint, "b.safetensors")
        found = lady.resync(bound.graph, architecture.load("b.safetensors").graph)
        architecture.save(found.graph, bound.checkpoint, "c.safetensors")
        back = load_file("c.safetensors")
        for n, a in tensors.items():
            assert back[n].dtype == a.dtype
            # float64 goes through the graph's single precision
            assert np.array_equal(back[n].astype(np.float32), a.astype(np.float32))


def refusal(like: Tensors, suspect: Tensors | None = None) -> str:
    save(like, Path("other.safetensors"))
    save(suspect or like, Path("s.safetensors"))
    with pytest.raises(LadyError) as told:
        Architecture("g.onnx", "other.safetensors").load("s.safetensors")
    return str(told.value)


@pytest.mark.usefixtures("folder")
def test_what_is_not_known_is_refused() -> None:
    _, like = network(0)
    suspect = network(1)[1]
    lacking = {n: a for n, a in suspect.items() if n != "packed"}
    assert "only other.safetensors has the tensor 'packed'" in refusal(like, lacking)
    more = {**suspect, "lora": np.ones(3, np.float32)}
    assert "only s.safetensors has the tensor 'lora'" in refusal(like, more)
    wide = {**suspect, "packed": np.ones((3, 12), np.float32)}
    assert "tensor 'packed' has shape [3, 12], not [32, 12]" in refusal(like, wide)
    extra = {"head": np.arange(20, dtype=np.float32)}
    changed = {**suspect, "head": extra["head"] + 1}
    assert "tensor 'head' is in no weight of the graph" in refusal({**like, **extra}, changed)
    order = {"order": np.arange(16)}
    assert "tensor 'order' is in no weight of the graph" in refusal({**like, **order})
    table = {"table": np.arange(9).reshape(3, 3)}
    save({**like, **table}, Path("other.safetensors"))
    Architecture("g.onnx", "other.safetensors").load("other.safetensors")
    # what is the same all over belongs to no unit, but is compared
    flat = {"flag": np.ones(3, np.int64), "one": np.array([3]), "truth": np.array(True)}
    for name, array in flat.items():
        other = {**suspect, **flat, name: np.zeros_like(array)}
        told = refusal({**like, **flat}, other)
        assert f"tensor '{name}' is in no weight of the graph, and differs from --like" in told
    save({**like, **extra}, Path("other.safetensors"))
    Architecture("g.onnx", "other.safetensors", ["he*"]).load(save(changed, Path("s.safetensors")))


@pytest.mark.usefixtures("folder")
def test_what_the_graph_does_not_see_may_not_differ() -> None:
    """Rows that the export cuts off, and digits that it rounds away."""
    like, suspect = network(0)[1], network(1)[1]
    rows = np.ones((4, 12), np.float32)
    cut = {**like, "packed": np.concatenate([like["packed"], np.eye(4, 12, dtype=np.float32)])}
    assert "a part of tensor 'packed' is in no weight of the graph" in refusal(cut)
    like["packed"] = np.concatenate([like["packed"], rows])
    suspect["packed"] = np.concatenate([suspect["packed"], rows])
    save(like, Path("other.safetensors"))
    Architecture("g.onnx", "other.safetensors").load(save(suspect, Path("s.safetensors")))
    suspect["packed"][-1, 3] += 1
    told = refusal(like, suspect)
    assert "a part of tensor 'packed' is in no weight of the graph, and differs" in told
    fine = {n: a.astype(np.float64) for n, a in network(1)[1].items()}
    fine["out.bias"][1] += 1e-12
    assert "has more digits than the graph, which is of float32; export it as float64" in refusal(
        network(0)[1], fine
    )


@pytest.mark.usefixtures("folder")
def test_tied_tensors_stay_tied() -> None:
    like = {**network(0)[1]}
    like["again"] = like["out.weight"]
    suspect = {**network(1)[1]}
    suspect["again"] = suspect["out.weight"]
    save(like, Path("other.safetensors"))
    architecture = Architecture("g.onnx", "other.safetensors")
    bound = architecture.load(save(suspect, Path("s.safetensors")))
    architecture.save(lady.permute(bound.graph, 1).graph, bound.checkpoint, "t.safetensors")
    moved = load_file("t.safetensors")
    assert np.array_equal(moved["again"], moved["out.weight"])
    assert not np.array_equal(moved["again"], suspect["again"])
    suspect["again"] = suspect["again"] + 1
    assert "are one in --like, and differ here" in refusal(like, suspect)


def test_few_values_are_told_by_name_alone() -> None:
    """Biases of zeros are alike; a guess would compare one layer with another."""
    zeros = np.zeros(8, np.float32)
    both = {"a.bias": zeros, "b.bias": zeros}
    found = bind_weights({f"m.{n}": zeros for n in both}, both, ["m.a.bias"])
    assert found["m.a.bias"].parts[0].tensor == "a.bias"
    assert bind_weights({"a.bias": zeros}, both, ["a.bias"])["a.bias"].parts[0].tensor == "a.bias"
    with pytest.raises(LadyError, match=r"holds few values, and may be 'a.bias' or 'b.bias'"):
        bind_weights({"w": zeros}, both, ["w"])
    # a part of a name is no proof while another tensor is nobody's, or one is two weights'
    for others in ({"hidden.bias": zeros, "out": zeros}, {"hidden.bias": zeros, "m.bias": zeros}):
        tensors = {"shift": zeros, "bias": zeros}
        assert bind_weights(others, tensors, []) == {}
        with pytest.raises(LadyError, match=r"'hidden.bias' .* may be 'shift' or 'bias'"):
            bind_weights(others, tensors, ["hidden.bias"])
    assert bind_weights({"a.bias": zeros, "b.bias": zeros}, {"bias": zeros}, []) == {}
    assert bind_weights({"w": zeros}, {"a.bias": zeros}, []) == {}


def test_what_may_be_two_things_is_refused_or_left_out() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((9, 9)).astype(np.float32)
    both = half + half.T
    with pytest.raises(LadyError, match=r"tensor 'm' is weight 'w' in two orders of its axes"):
        bind_weights({"w": both}, {"m": both}, ["w"])
    bias = rng.standard_normal(16).astype(np.float32)
    padded = np.concatenate([bias, np.zeros(4, np.float32)])
    other = np.zeros(4, np.float32)
    assert bind_weights({"w": padded}, {"q": bias, "head.bias": other}, ["w"]) == {}
    # two tensors that begin alike: of which of them the part is, nothing tells
    rows = rng.standard_normal((6, 9)).astype(np.float32)
    begun = {
        k: np.concatenate([rows, rng.standard_normal((2, 9)).astype(np.float32)]) for k in "ab"
    }
    assert bind_weights({"w": rows}, begun, ["w"]) == {}
    # one that is saved twice stays the same twice, whichever the graph names
    found = bind_weights({"packed": half}, {"packed": half, "again": half.copy()}, ["packed"])
    assert (found["packed"].parts[0].tensor, found["packed"].copies) == ("packed", ("again",))
    turned = {"packed": half, "again": half.T.copy()}
    assert bind_weights({"packed": half}, turned, ["packed"])["packed"].copies == ()
    both_types = {"h": half.astype(np.float16), "f": rng.standard_normal(9).astype(np.float32)}
    assert bind_weights(both_types, both_types, []).keys() == {"h", "f"}
    weights = {"a": half, "b": half.copy()}
    assert {s.copies for s in bind_weights(weights, weights, ["a", "b"]).values()} == {()}


@pytest.mark.usefixtures("folder")
def test_a_weight_that_reaches_no_output_stands_for_no_tensor() -> None:
    model, like = network(0)
    like["head"] = np.random.default_rng(5).standard_normal((6, 5)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(like["head"], "dead"))
    model.graph.node.append(helper.make_node("Relu", ["dead"], ["nowhere"]))
    onnx.save(model, "g.onnx")
    assert "tensor 'head' is in no weight of the graph" in refusal(like)


@pytest.mark.usefixtures("folder")
def test_single_numbers_are_bound_by_their_names() -> None:
    model, like = network(0)
    like["scale"] = np.array(2.5, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(like["scale"], "scale"))
    model.graph.node[-1].output[0] = "unscaled"
    model.graph.node.append(helper.make_node("Mul", ["unscaled", "scale"], ["out"]))
    onnx.save(model, "g.onnx")
    save(like, Path("like.safetensors"))
    architecture = Architecture("g.onnx", "like.safetensors")
    other = {**network(1)[1], "scale": np.array(3.5, np.float32)}
    bound = architecture.load(save(other, Path("a.safetensors")))
    assert float(bound.graph.array("scale")) == 3.5
    architecture.save(lady.permute(bound.graph, 1).graph, bound.checkpoint, "b.safetensors")
    assert load_file("b.safetensors")["scale"].shape == ()


@pytest.mark.usefixtures("folder")
def test_metadata_keep_one_order() -> None:
    architecture, tensors = Architecture("g.onnx", "like.safetensors"), network(1)[1]
    save_file(tensors, "a.safetensors", metadata={f"key{k}": str(k) for k in range(8)})
    bound = architecture.load("a.safetensors")
    for name in "bcd":
        architecture.save(bound.graph, bound.checkpoint, f"{name}.safetensors")
    assert len({Path(f"{n}.safetensors").read_bytes() for n in "bcd"}) == 1
    assert read_checkpoint(Path("b.safetensors")).metadata["b.safetensors"]["key7"] == "7"


@pytest.mark.usefixtures("folder")
def test_shards_are_read_whole_and_overwrite_nothing() -> None:
    architecture, tensors = Architecture("g.onnx", "like.safetensors"), network(1)[1]
    index = save(tensors, Path("s.safetensors.index.json"))
    part = json.loads(index.read_text())["weight_map"]["q.weight"]
    bound = architecture.load(index)
    architecture.save(bound.graph, bound.checkpoint, "t.safetensors.index.json")
    assert Path("t-00002-of-00002.safetensors").exists()
    back = architecture.load("t.safetensors.index.json")
    assert all(np.array_equal(back.checkpoint.tensors[n], a) for n, a in tensors.items())
    for taken in (back.checkpoint.files, {Path("t-00001-of-00002.safetensors").resolve()}):
        with pytest.raises(LadyError, match="would overwrite an input"):
            architecture.save(bound.graph, bound.checkpoint, "t.safetensors.index.json", taken)
    # a part with more than the index says is read by others
    save_file({**load_file(part), "k.weight": tensors["k.weight"] * -7}, part)
    with pytest.raises(LadyError, match=r"differ in tensor 'k.weight'"):
        architecture.load(index)


@pytest.mark.parametrize("count", range(4))
def test_a_checkpoint_in_parts_is_whole_at_any_moment(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the process, the index names parts of one checkpoint."""
    architecture = Architecture("g.onnx", "like.safetensors")
    first, second = (
        architecture.load(save(network(k)[1], Path(f"s{k}.safetensors.index.json"))) for k in (1, 2)
    )
    name = "t.safetensors.index.json"
    architecture.save(first.graph, first.checkpoint, name)
    done: list[object] = []
    replace = os.replace

    def end_early(*args: Any) -> None:
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(args)
        replace(*args)

    monkeypatch.setattr(os, "replace", end_early)
    with contextlib.suppress(KeyboardInterrupt):
        architecture.save(second.graph, second.checkpoint, name)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    found = read_checkpoint(Path(name)).tensors
    wanted = second if len(done) == 3 else first
    assert all(np.array_equal(found[n], a) for n, a in wanted.checkpoint.tensors.items())
    architecture.save(second.graph, second.checkpoint, name)
    architecture.save(first.graph, first.checkpoint, name)
    found = read_checkpoint(Path(name)).tensors
    assert all(np.array_equal(found[n], a) for n, a in first.checkpoint.tensors.items())
    assert len(list(folder.glob("t*-of-*"))) == 2


@pytest.mark.usefixtures("folder")
def test_checkpoints_in_parts_leave_each_other_alone() -> None:
    """Whatever their names are: a part that another index names is not ours to replace."""
    architecture = Architecture("g.onnx", "like.safetensors")
    saved = {}
    for k, stem in enumerate(("m.1", "m", "m.parts1", "m", "m", "m.1", "m.parts1", "m")):
        bound = architecture.load(save(network(k + 1)[1], Path(f"s{k}.safetensors.index.json")))
        name = f"{stem}.safetensors.index.json"
        architecture.save(bound.graph, bound.checkpoint, name)
        saved[name] = bound.checkpoint.tensors
        for written, tensors in saved.items():
            found = read_checkpoint(Path(written)).tensors
            assert all(np.array_equal(found[n], a) for n, a in tensors.items()), written
    assert len(list(Path().glob("m*-of-*"))) == 2 * len(saved)


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_written_back_is_told() -> None:
    """A tensor that two weights are made of, and a constant of the graph."""
    model, _ = network(0)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    twice = numpy_helper.from_array(arrays["last"], "twice")
    table = numpy_helper.from_array(np.arange(16, dtype=np.float32), "table")
    model.graph.initializer.extend([twice, table])
    model.graph.node[-1].output[0] = "half"
    model.graph.node.append(helper.make_node("Mul", ["m", "table"], ["mt"]))
    model.graph.node.append(helper.make_node("MatMul", ["mt", "twice"], ["more"]))
    model.graph.node.append(helper.make_node("Add", ["half", "more"], ["out"]))
    onnx.save(model, "g.onnx")
    architecture = Architecture("g.onnx", "like.safetensors")
    bound = architecture.load("like.safetensors")
    for name, why in (("twice", "say different things"), ("table", "comes from no tensor")):
        changed = bound.graph.copy()
        changed.replace(name, changed.array(name) + 1)
        with pytest.raises(LadyError, match=why):
            architecture.save(changed, bound.checkpoint, "b.safetensors")
        assert not Path("b.safetensors").exists()


@pytest.mark.usefixtures("folder")
def test_a_tensor_that_a_weight_is_made_of_is_never_left_out() -> None:
    architecture = Architecture("g.onnx", "like.safetensors", ["*"])
    lacking = {n: a for n, a in network(1)[1].items() if n != "packed"}
    with pytest.raises(LadyError, match="has the tensor 'packed'"):
        architecture.load(save(lacking, Path("s.safetensors")))
    wide = {**network(1)[1], "packed": np.ones((3, 12), np.float32)}
    with pytest.raises(LadyError, match="tensor 'packed' has shape"):
        architecture.load(save(wide, Path("s.safetensors")))


@pytest.mark.usefixtures("folder")
def test_no_part_lies_elsewhere(tmp_path: Path) -> None:
    save(network(1)[1], Path("p.safetensors"))
    inner = tmp_path / "inner"
    inner.mkdir()
    weights = dict.fromkeys(network(1)[1], "../p.safetensors")
    (inner / "a.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(LadyError, match="is not beside it"):
        read_checkpoint(inner / "a.safetensors.index.json")


@pytest.mark.usefixtures("folder")
def test_types_that_would_round_are_not_written() -> None:
    architecture = Architecture("g.onnx", "like.safetensors")
    half = {n: a.astype(np.float16) for n, a in network(1)[1].items()}
    bound = architecture.load(save(half, Path("a.safetensors")))
    changed = bound.graph.copy()
    changed.replace("last", changed.array("last") / 3)
    with pytest.raises(
        LadyError, match=r"'out.weight' is of float16, which would round weight 'last'"
    ):
        architecture.save(changed, bound.checkpoint, "b.safetensors")


OUTSIDE = ("elsewhere.h5", "nowhere.h5", "virtual.h5")
"""Keras files with arrays in other files, or nowhere."""


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


def test_hostile_files_are_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cut.safetensors").write_bytes(Path("like.safetensors").read_bytes()[:500])
    Path("text.pt").write_text("no archive")
    torch.save({"a": Evil()}, "evil.pt")
    torch.save({"a": torch.ones(2), "epoch": 3}, "more.pt")
    np.savez("object.npz", a=np.array([None], object))
    index = {"weight_map": {"a": "../like.safetensors"}}
    Path("x.safetensors.index.json").write_text(json.dumps(index))
    Path("y.safetensors.index.json").write_text("{}")
    Path("text.h5").write_text("no HDF5")
    with zipfile.ZipFile("empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with h5py.File("elsewhere.h5", "w") as file:
        # what is said to lie in another file, and what was never written
        file.create_dataset("a", (8,), "u1", external=[("g.onnx", 0, 8)])
    with h5py.File("nowhere.h5", "w") as file:
        file.create_dataset("a", (1 << 50,), "f4", chunks=(1 << 20,))
    with h5py.File("virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((8,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "a", (8,))
        file.create_virtual_dataset("a", layout)
    np.savez("words.npz", **{n: a.astype(str) for n, a in network(0)[1].items()})
    torch.save({0: torch.ones(2)}, "number.pt")
    names = [
        "words.npz",
        "number.pt",
        "cut.safetensors",
        "text.pt",
        "evil.pt",
        "more.pt",
        "object.npz",
        "none.npz",
        *("text.h5", "empty.keras", *OUTSIDE),
    ]
    names += ["x.safetensors.index.json", "y.safetensors.index.json", "g.onnx"]
    bound = ["--graph", "g.onnx", "--like", "like.safetensors"]
    for name in names:
        assert main(["check", "like.safetensors", name, *bound]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith(f"lady-onnx: {name}: ")
        assert ("does not lie in the file" in line) == (name in OUTSIDE)


def test_the_verdict_names_what_was_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = {"head": np.arange(20, dtype=np.float32)}
    save({**network(0)[1], **head}, Path("like.safetensors"))
    save({**network(1)[1], **head}, Path("a.safetensors"))
    save({**network(1)[1], "head": head["head"] + 1}, Path("b.safetensors"))
    ask = ["check", "a.safetensors", "b.safetensors", "--graph", "g.onnx"]
    ask += ["--like", "like.safetensors", "--ignore", "head", "--ignore", "q.*"]
    assert main(ask) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["left out, and compared by nobody: 'head'"]
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == ["head"]
    ask[0] = "resync"
    assert main([*ask, "-o", "c.safetensors"]) == 0
    assert "compared by nobody: 'head'" in capsys.readouterr().out


def test_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bound = ["--graph", "g.onnx", "--like", "like.safetensors"]
    save(network(1)[1], Path("a.safetensors"))
    assert main(["permute", "a.safetensors", "-o", "b.safetensors", *bound]) == 0
    assert main(["check", "a.safetensors", "b.safetensors", *bound, "--report", "r.json"]) == 0
    assert [f["path"] for f in json.loads(Path("r.json").read_text())["record"]["files"]] == [
        str(folder / n) for n in ("a.safetensors", "b.safetensors", "g.onnx", "like.safetensors")
    ]
    assert main(["resync", "a.safetensors", "b.safetensors", *bound]) == 0
    assert Path("b.resynced.safetensors").read_bytes() == Path("a.safetensors").read_bytes()
    for name in "ab":
        ask = ["canonicalize", f"{name}.safetensors", "-o", f"{name}c.safetensors", *bound]
        assert main(ask) == 0
    assert Path("ac.safetensors").read_bytes() == Path("bc.safetensors").read_bytes()
    capsys.readouterr()
    assert main(["permute", "a.safetensors", "-o", "a.safetensors", *bound]) == 2
    assert "would overwrite" in capsys.readouterr().err
    before = {n: Path(n).read_bytes() for n in ("g.onnx", "like.safetensors")}
    for name, raw in before.items():
        assert main(["check", *["a.safetensors"] * 2, *bound, "--html", name]) == 2
        assert main(["permute", "a.safetensors", "-o", name, *bound]) == 2
        assert "would overwrite" in capsys.readouterr().err
        assert Path(name).read_bytes() == raw
    assert main(["permute", "a.safetensors", "-o", "b.npz", *bound]) == 2
    assert "ends with .safetensors; give such a name" in capsys.readouterr().err
    assert main(["check", "a.safetensors", "b.safetensors", *bound[:2]]) == 2
    assert "--graph and --like belong together" in capsys.readouterr().err
    assert main(["check", "g.onnx", "g.onnx", "--ignore", "x"]) == 2
    assert "--ignore is for checkpoints" in capsys.readouterr().err


def test_every_call_reads_its_own_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process, with the same names in another folder."""
    for kind in ("one", "two"):
        (tmp_path / kind).mkdir()
        monkeypatch.chdir(tmp_path / kind)
        model, tensors = network(0)
        if kind == "two":
            # a graph of other names, which those of the first call do not fit
            tensors = {f"own.{n}": a for n, a in tensors.items()}
        onnx.save(model, "g.onnx")
        save(tensors, Path("like.safetensors"))
        bound = ["--graph", "g.onnx", "--like", "like.safetensors"]
        assert main(["registry", "add", "like.safetensors", "--db", "db", *bound]) == 0
