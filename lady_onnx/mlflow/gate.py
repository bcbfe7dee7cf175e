"""May this version pass? The answer is written into MLflow's registry, as tags and an alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lady_onnx

from ..errors import LadyError, MissingFileError, UsageError, to_one_line
from ..graph.formats import (
    download_model,
    find_model,
    is_mlflow_address,
    make_server_error,
)
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..pipeline.checking import check
from ..registry.fingerprints import fingerprint
from ..registry.identification import hash_files
from ..registry.policy import Policy
from ..reporting import Report
from .serving import explain_difference, read_serving

VERIFIED = "verified"
"""The alias of the version that passed last."""
TAG = "lady-onnx."
"""How the names of all tags begin."""
PASSES = f"{TAG}passes"
MAX_TAG_LENGTH = 4000
"""MLflow's stores keep at least so many characters of a tag."""
Result = TypeVar("Result")


@dataclass(frozen=True, repr=False)
class Decision(Report):
    """Whether a version passes.

    Attributes:
        name, version: the version, in MLflow's registry.
        reference: the address of what it was compared with.
        passes: whether it passes.
        reason: why, or why not.
        tags: what was written to the version.
        alias: the alias that it has now, None for none.
    """

    name: str
    version: str
    reference: str
    passes: bool
    reason: str
    tags: dict[str, str]
    alias: str | None

    def headline(self) -> str:
        """Say whether the version passes, and why."""
        answer = "passes" if self.passes else "does not pass"
        return f"{self.name} version {self.version} {answer}: {self.reason}"


def gate(
    name: str,
    version: str | int,
    *,
    reference: str,
    policy: Policy | None = None,
    alias: str | None = VERIFIED,
    tracking_uri: str | None = None,
    **options: Any,
) -> Decision:
    """Compare a version of a registered model with a reference, and write down whether it passes.

    A version that passes gets the alias. One that does not pass loses it, if it has it; the alias
    of another version stays where it is. A model that cannot be read does not pass.

    Args:
        name: the registered model.
        version: its version.
        reference: an address or a path, such as `models:/name@champion`. `{name}` in it stands for
            the name.
        policy: what passes; suspects that compute what the reference does, by default.
        alias: the alias, None for none.
        tracking_uri: the address of the server, by default the one that MLflow is told of.
        options: as for `check`.

    Raises:
        UsageError: MLflow is not installed, or the reference goes by the alias that is given.
        MissingFileError: there is no such version, or no such reference.
        LadyError: the reference cannot be read, or the server does not answer.
    """
    client = _open_client(tracking_uri)
    odd = next((c for c in name if c in "?#%@{}" or not c.isprintable()), None)
    if odd is not None:
        # an address with it would be that of another model
        raise UsageError(f"{name!a}: has {odd!a}; give the registered model another name")
    reference = reference.replace("{name}", name)
    if alias is not None and reference == f"models:/{name}@{alias}":
        # what passes would be the reference of all that comes after it
        what = f"alias '{alias}': the reference goes by it; name another alias"
        raise UsageError(f"{name}: {what}")
    asked = f"models:/{name}/{version}"
    found = _ask(asked, lambda: client.get_model_version(name, str(version)))
    version, address = str(found.version), f"models:/{found.name}/{found.version}"
    with _at_server(tracking_uri):
        trusted, serving = _read_reference(reference)
        # a reference that cannot be compared, or an odd option, says nothing of the version
        check(trusted, trusted, **options)
        folder = download_model(address)
        refusal, said = _judge(trusted, serving, address, folder, policy or Policy(), options)
    tags = {f"{TAG}{key}": value[:MAX_TAG_LENGTH] for key, value in said.items()}
    tags |= {f"{TAG}reference": reference, PASSES: str(refusal is None).lower()}
    tags[f"{TAG}tool"] = f"lady-onnx {lady_onnx.__version__}"
    _ask(address, lambda: _write(client, name, version, tags, refusal is None, alias))
    verdict = f"{said['verdict']}: {said['reason']}"
    reason = verdict if refusal is None else f"{refusal}; {verdict}"
    return Decision(
        name, version, reference, refusal is None, reason, tags, alias if refusal is None else None
    )


def _read_reference(reference: str) -> tuple[Graph, dict[str, Any]]:
    """Return a reference, and what MLflow does with it beside running it."""
    if not is_mlflow_address(reference):
        return load_graph(reference), {}
    folder = download_model(reference)
    graph = load_graph(find_model(reference, folder))
    return graph, read_serving(folder, len(graph.required_inputs))


def _judge(
    trusted: Graph,
    serving: dict[str, Any],
    address: str,
    folder: Path,
    policy: Policy,
    options: dict[str, Any],
) -> tuple[str | None, dict[str, str]]:
    """Return why a version does not pass, None where it does, and what is to be said of it."""
    try:
        suspect = load_graph(find_model(address, folder))
        odd = explain_difference(serving, read_serving(folder, len(suspect.required_inputs)))
        found = check(trusted, suspect, **options)
        tags = {"sha256": hash_files(suspect)[0], "exact": fingerprint(suspect).exact}
        tags["reference-sha256"] = hash_files(trusted)[0]
    except LadyError as error:
        return "it cannot be read", {"verdict": "unreadable", "reason": to_one_line(error)}
    tags |= {"verdict": found.verdict, "reason": found.reason}
    tags |= {"recognised": f"{found.recognised:.4f}", "equality": found.equality or "none"}
    return policy.explain(found) or odd, tags


def _write(
    client: Any, name: str, version: str, tags: dict[str, str], passes: bool, alias: str | None
) -> None:
    """Write an answer, so that at no moment a version has a yes that it should not have.

    A no takes the alias before the tags change. A yes gives it after them, and then the tag that
    says so. What that tag said before goes first.
    """
    found = client.get_model_version(name, version)
    if not passes and alias in found.aliases:
        client.delete_registered_model_alias(name, alias)
    own = (k for k in found.tags if k.startswith(TAG))
    for key in sorted(own, key=lambda k: k != PASSES):
        if key == PASSES or key not in tags:
            client.delete_model_version_tag(name, version, key)
    for key in sorted(tags, key=lambda k: (k == PASSES) == passes):
        if key == PASSES and passes and alias and alias not in found.aliases:
            client.set_registered_model_alias(name, alias, version)
        client.set_model_version_tag(name, version, key, tags[key])


def _open_client(tracking_uri: str | None) -> Any:
    try:
        import mlflow
    except ImportError:
        what = "the gate needs the extra `mlflow`: pip install 'lady-onnx[mlflow]'"
        raise UsageError(what) from None
    if tracking_uri is None and not mlflow.is_tracking_uri_set():
        # MLflow would make a database in this folder, and find nothing in it
        raise UsageError("the gate: no server is known; set MLFLOW_TRACKING_URI")
    return mlflow.MlflowClient(tracking_uri, tracking_uri)


def _ask(address: str, question: Callable[[], Result]) -> Result:
    """Ask the server, and say in one line what is wrong."""
    from mlflow.exceptions import MlflowException

    try:
        return question()
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MissingFileError(f"{address}: MLflow has no such model or version") from None
        raise make_server_error(address, error) from None


@contextmanager
def _at_server(tracking_uri: str | None) -> Iterator[None]:
    """Let addresses be those of a server."""
    if tracking_uri is None:
        yield
        return
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
