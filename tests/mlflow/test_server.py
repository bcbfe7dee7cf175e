"""The gate and the receiver with a real server of MLflow, SQLite behind it, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.mlflow import gate
from lady_onnx.mlflow.queue import JobQueue
from lady_onnx.registry.policy import Policy

from ..helpers.builders import build, node, w
from ..helpers.networks import perceptron
from .test_receiver import CREATED, encode, sign

pytestmark = pytest.mark.long

SIZES = (20, 48, 64, 32, 7)
POLICY = Policy(("permuted", "rescaled", "altered"), 0.9)
SECRET = "a secret of the webhook"
OPEN = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",
}
"""Lets MLflow deliver to loopback."""


def find_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(ask: Callable[[], Any], seconds: float = 120) -> Any:
    """Asks until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := ask():
                return found
        time.sleep(0.2)
    raise TimeoutError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, and this process as its client."""
    folder, port = tmp_path_factory.mktemp("server"), find_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/db.sqlite"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **OPEN}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = address
    mlflow.set_tracking_uri(address)
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/health", timeout=5).status == 200)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        mlflow.set_tracking_uri(None)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before:
            os.environ["MLFLOW_TRACKING_URI"] = before


def register(model: onnx.ModelProto, folder: Path, name: str) -> str:
    """Registers a version of a model, and returns its number."""
    client = mlflow.MlflowClient()
    onnx.save(model, folder / "model.onnx")
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(folder / "model.onnx"), "model")
    with contextlib.suppress(mlflow.exceptions.MlflowException):
        client.create_registered_model(name)
    return str(client.create_model_version(name, f"runs:/{run}/model", run).version)


@pytest.fixture(scope="module")
def base() -> onnx.ModelProto:
    return perceptron(SIZES, seed=1)


def test_the_gate(
    server: str, base: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient()
    first = register(base, tmp_path, "clf")
    client.set_registered_model_alias("clf", "champion", first)
    noisy = lady.permute(lady.attack(base, "noise", 0.1, seed=1).model, 1).model
    uploads = {
        "permuted": lady.permute(base, 1).model,
        "altered": noisy,
        "tampered": lady.attack(base, "scale", 3.0, weights=["w1"], seed=1).model,
        "unrelated": perceptron(SIZES, seed=9),
    }
    for verdict, model in uploads.items():
        version = register(model, tmp_path, "clf")
        found = gate("clf", version, reference="models:/{name}@champion", policy=POLICY)
        tags = client.get_model_version("clf", version).tags
        assert tags == {**tags, **found.tags}
        assert tags["lady-onnx.verdict"] == verdict
        passes = verdict in ("permuted", "altered")
        assert tags["lady-onnx.passes"] == str(passes).lower()
        assert found.passes == passes
        aliases = client.get_model_version("clf", version).aliases
        assert aliases == (["verified"] if passes else [])
    # the one that passed last keeps the alias, until it does not pass any more
    assert client.get_registered_model("clf").aliases["verified"] == "3"
    assert not gate("clf", 3, reference="models:/clf@champion").passes
    assert "verified" not in client.get_registered_model("clf").aliases
    # addresses wherever a path goes
    args = ["check", "models:/clf@champion", "models:/clf/2"]
    assert main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "permuted"
    source = client.get_model_version("clf", "2").source
    assert main(["check", source, "models:/clf/4"]) == 1
    out = tmp_path / "out.onnx"
    assert main(["resync", "models:/clf/1", "models:/clf/2", "-o", str(out), "-q"]) == 0
    assert (
        load_graph(out).array("w0").tobytes() == load_graph("models:/clf/1").array("w0").tobytes()
    )
    capsys.readouterr()
    assert main(["resync", "models:/clf/1", "models:/clf/2"]) == 2
    assert "name it with -o" in capsys.readouterr().err
    assert main(["check", "models:/clf/1", "models:/clf/99"]) == 2
    assert "models:/clf/99: MLflow has no such model or version" in capsys.readouterr().err
    # what passes never becomes the reference of all that follows
    args = ["registry", "gate", "clf", "2", "--reference", "models:/{name}@champion"]
    assert main([*args, "--alias", "champion"]) == 2
    assert "the reference goes by it" in capsys.readouterr().err
    # without its alias no version passes
    assert main([*args, "--alias", "bad alias"]) == 2
    assert "lady-onnx.passes" not in client.get_model_version("clf", "2").tags
    capsys.readouterr()
    assert main(["resync", "models:/clf/1", "models:/clf/2", "-o", "models:/clf/3"]) == 2
    assert "an address of MLflow; give a file" in capsys.readouterr().err
    suspect = client.get_model_version("clf", "2").source
    out = tmp_path / "again.onnx"
    assert main(["resync", "models:/clf/1", suspect, "-o", str(out), "-q"]) == 0
    capsys.readouterr()
    assert main(["registry", "gate", "clf", "2", "--reference", "models:/clf/1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alias"] == "verified"
    assert main(["registry", "gate", "clf", "99", "--reference", "models:/clf/1"]) == 2
    assert "models:/clf/99: MLflow has no such model or version" in capsys.readouterr().err


def test_a_model_that_cannot_be_read_does_not_pass(server: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    first = register(perceptron(SIZES, seed=1), tmp_path, "odd")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(tmp_path / "model.onnx"), "model")
    version = client.create_model_version("odd", f"runs:/{run}/model", run).version
    found = gate("odd", version, reference=f"models:/odd/{first}")
    assert not found.passes
    assert found.tags["lady-onnx.verdict"] == "unreadable"
    assert "lady-onnx.exact" not in client.get_model_version("odd", version).tags
    # a fault of the reference, or of the call, is none of the version
    client.set_registered_model_alias("odd", "verified", version)
    for odd in ({"threads": 0}, {"timeout": -1}):
        with pytest.raises(lady.LadyError):
            gate("odd", version, reference=f"models:/odd/{first}", **odd)
    assert client.get_model_version("odd", version).aliases == ["verified"]
    for name in ("odd@champion?x", "odd#", "{name}"):
        with pytest.raises(lady.LadyError, match="another name"):
            gate(name, 1, reference="models:/{name}@champion")
    with pytest.raises(lady.LadyError, match=f"^models:/odd/{version}/.*: not an ONNX file"):
        gate("odd", first, reference=f"models:/odd/{version}")


def test_columns_in_another_order_do_not_pass(server: str) -> None:
    """The files are equal, and what MLflow answers to one data frame is not."""
    model = build([node("MatMul", "x,W", "out")], {"W": w(4, 3)}, {"x": ["n", 4]})
    names = ["a", "b", "c", "d"]
    versions = {}
    for what, order in (("same", names), ("other", names[::-1]), ("again", names)):
        columns = mlflow.types.Schema([mlflow.types.ColSpec("float", n) for n in order])
        with mlflow.start_run():
            info = mlflow.onnx.log_model(
                model,
                name="model",
                registered_model_name="table",
                save_as_external_data=False,
                signature=mlflow.models.ModelSignature(inputs=columns),
            )
        versions[what] = str(info.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias("table", "champion", versions["same"])
    found = gate("table", versions["again"], reference="models:/{name}@champion")
    assert found.passes, found.reason
    found = gate("table", versions["other"], reference="models:/{name}@champion")
    assert not found.passes
    assert "columns 'd', 'c', 'b', 'a'" in found.reason


def test_the_evaluator(server: str, base: onnx.ModelProto, tmp_path: Path) -> None:
    import pandas as pd

    first = register(base, tmp_path, "evaluated")
    second = register(lady.permute(base, 1).model, tmp_path, "evaluated")
    config = {
        "reference": f"models:/evaluated/{first}",
        "suspect": f"models:/evaluated/{second}",
        "accept": ["permuted"],
    }
    with mlflow.start_run() as run:
        found = mlflow.models.evaluate(
            data=pd.DataFrame({"x": [0], "predictions": [0]}),
            predictions="predictions",
            model_type="text",
            evaluators=["lady-onnx"],
            evaluator_config={"lady-onnx": config},
        )
    assert found.metrics["lady-onnx/accepted"] == 1
    client = mlflow.MlflowClient()
    logged = client.get_run(run.info.run_id).data
    assert logged.metrics["lady-onnx/recognised"] == 1
    assert logged.tags["lady-onnx.verdict"] == "permuted"
    names = {f.path for f in client.list_artifacts(run.info.run_id, "lady-onnx")}
    assert names == {"lady-onnx/report.html", "lady-onnx/report.json"}


@contextlib.contextmanager
def receiving(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The receiver, in a process of its own."""
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "policy.toml").write_text('accept = ["permuted", "altered"]\nmin_recognised = 0.9\n')
    command = [sys.executable, "-m", "lady_onnx", "registry", "serve-webhook"]
    command += ["--reference", "models:/{name}@champion", "--port", str(port)]
    command += ["--secret-file", str(folder / "secret"), "--queue", str(folder / "queue")]
    command += ["--policy", str(folder / "policy.toml")]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1))
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(port: int, headers: dict[str, str], body: bytes) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
    try:
        return int(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_webhooks(server: str, base: onnx.ModelProto, tmp_path: Path) -> None:
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

    client = mlflow.MlflowClient()
    first = register(base, tmp_path, "hooked")
    client.set_registered_model_alias("hooked", "champion", first)
    port = find_port()
    event = WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)
    client.create_webhook("gate", f"http://127.0.0.1:{port}/", [event], secret=SECRET)

    def verdict(version: str) -> str | None:
        return client.get_model_version("hooked", version).tags.get("lady-onnx.passes")

    with receiving(port, tmp_path) as process:
        good = register(lady.permute(base, 1).model, tmp_path, "hooked")
        assert wait_for(lambda: verdict(good)) == "true"
        bad = register(perceptron(SIZES, seed=9), tmp_path, "hooked")
        assert wait_for(lambda: verdict(bad)) == "false"
        assert client.get_registered_model("hooked").aliases["verified"] == good
        # nobody else is believed, and nobody twice
        body = encode({**CREATED, "data": {"name": "hooked", "version": good}})
        assert post(port, sign(body, "x", secret="forged"), body) == 401
        assert post(port, sign(body, "y", age_s=1000, secret=SECRET), body) == 401
        headers = sign(body, "z", secret=SECRET)
        assert [post(port, headers, body) for _ in range(2)] == [202, 409]
        assert post(port, {}, b"x" * (2 << 20)) == 413
        # killed with a job in the queue, which the next one takes
        os.killpg(process.pid, signal.SIGKILL)
    # nobody hears of this version, but that it waits in the queue
    again = register(lady.permute(base, 2).model, tmp_path, "hooked")
    JobQueue(tmp_path / "queue").put("lost", {"name": "hooked", "version": again})
    with receiving(port, tmp_path):
        assert wait_for(lambda: verdict(again)) == "true"
        assert wait_for((tmp_path / "queue" / "done" / "lost.json").exists)
