"""Things that are given in place of the path of an ONNX file, and the way from each to ONNX."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from ..errors import (
    MIN_NAME_SIMILARITY,
    FormatError,
    LadyError,
    MissingFileError,
    UsageError,
    to_one_line,
)

TORCH_WAY = "load it in PyTorch and write it with torch.onnx.export"
KERAS_WAY = "python -m tf2onnx.convert --keras FILE --output model.onnx"
WAY_OF_SUFFIX = {
    ".pt": ("a PyTorch file", TORCH_WAY),
    ".pth": ("a PyTorch file", TORCH_WAY),
    ".ckpt": ("a checkpoint", TORCH_WAY),
    ".safetensors": (
        "weights without a graph",
        "export the model that they belong to: optimum-cli export onnx --model FOLDER OUT; check, "
        "resync, permute, canonicalize and fingerprint read weights with that as --graph",
    ),
    ".h5": ("a Keras file", KERAS_WAY),
    ".keras": ("a Keras file", KERAS_WAY),
    ".tflite": (
        "a TensorFlow Lite model",
        "python -m tf2onnx.convert --tflite FILE --output model.onnx",
    ),
    ".gguf": (
        "a llama.cpp model",
        "export the original model: optimum-cli export onnx --model NAME OUT",
    ),
}
"""What a file is by its suffix, and how it becomes an ONNX file."""

FOLDER_MARKS = (
    ("saved_model.pb", "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"),
    ("config.json", "optimum-cli export onnx --model FOLDER OUT"),
)
"""Files that tell what a folder is, and how it becomes an ONNX file."""

SERVED = "mlflow.onnx"
"""The module of MLflow that loads ONNX files."""
MAX_SHOWN_FILES = 3
"""The number of files of a folder that a message names."""


MLFLOW_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
"""How addresses begin that MLflow resolves: `models:/name/3`, `models:/name@champion`, `runs:/`."""


def is_address(path: Path | str) -> bool:
    """Tell whether something is an address on the web, also one that was made a path.

    >>> is_address("https://example.org/m.onnx"), is_address(Path("https://example.org/m.onnx"))
    (True, True)
    >>> is_address("models/m.onnx")
    False
    """
    # One letter and a colon are a drive of Windows.
    scheme, colon, rest = str(path).partition(":/")
    return bool(colon and rest) and scheme.isalpha() and len(scheme) > 1


def explain_format(path: Path) -> str | None:
    """Say in a few words what a file is instead of an ONNX model, and the way to ONNX.

    Returns:
        The explanation, or None where the file's suffix says nothing.

    >>> explain_format(Path("net.tflite"))
    'a TensorFlow Lite model; python -m tf2onnx.convert --tflite net.tflite --output model.onnx'
    >>> explain_format(Path("net.onnx")) is None
    True
    """
    if path.suffix.lower() not in WAY_OF_SUFFIX:
        return None
    what, way = WAY_OF_SUFFIX[path.suffix.lower()]
    return f"{what}; {way.replace('FILE', str(path)).replace('FOLDER', str(path.parent))}"


def explain_address(path: Path) -> str:
    """Say what to do with an address on the web, in full: a path has lost one of its slashes.

    >>> explain_address(Path("https://example.org/m.onnx"))
    'https://example.org/m.onnx: an address; download the file, and give its path'
    """
    address = str(path).replace(":/", "://", 1)
    return f"{address}: an address; download the file, and give its path"


def explain_folder(path: Path) -> str:
    """Say which file of a folder to give, or how what is in it becomes an ONNX file."""
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        rest = f" and {len(models) - MAX_SHOWN_FILES} more" * (len(models) > MAX_SHOWN_FILES)
        return f"give a file in it: {', '.join(models[:MAX_SHOWN_FILES])}{rest}"
    for mark, way in FOLDER_MARKS:
        if (path / mark).exists():
            return f"it holds no .onnx file; {way.replace('FOLDER', str(path))}"
    return "it holds no .onnx file; give the path of one"


def suggest_path(path: Path) -> str:
    """Return a question that names the file closest to a missing one, or an empty text."""
    try:
        # a link that leads nowhere is there, and is none
        known = [file.name for file in path.parent.iterdir() if file.exists()]
    except (OSError, ValueError):
        return ""
    import difflib  # only mistakes need it

    close = difflib.get_close_matches(path.name, known, 1, MIN_NAME_SIMILARITY)
    return f"did you mean '{path.with_name(close[0])}'? " if close else ""


def is_mlflow_address(source: str) -> bool:
    """Tell whether a path is an address in MLflow.

    >>> is_mlflow_address("models:/classifier@champion"), is_mlflow_address("models/m.onnx")
    (True, False)
    """
    return source.startswith(MLFLOW_SCHEMES)


_fetched: dict[Path, str] = {}
"""By folder the address that it was fetched from."""


def name_source(path: Path) -> str:
    """Return how messages call a file: by its path, or by the address that it was fetched from."""
    # another thread may fetch meanwhile
    for folder, address in list(_fetched.items()):
        if path.is_relative_to(folder):
            inside = path.relative_to(folder).as_posix()
            return address if inside == "." else f"{address}/{inside}"
    return str(path)


def fetch_model(address: str) -> Path:
    """Fetch a model and return the path of its ONNX file; see `download_model` and `find_model`."""
    return find_model(address, download_model(address))


def download_model(address: str) -> Path:
    """Fetch what lies at an address of MLflow, and return its folder or file.

    It is fetched whenever somebody asks, as an alias may name another version by then. The files go
    to a folder that is removed at the end of the process. The server is the one that MLflow is told
    of, by MLFLOW_TRACKING_URI for one.

    Args:
        address: the address.

    Raises:
        UsageError: MLflow is not installed, no server is known, or the address could be read in two
            ways.
        MissingFileError: there is nothing at the address.
        LadyError: the server does not answer.
    """
    odd = next((c for c in address if c in "?#%" or not c.isprintable()), None)
    if odd is not None:
        # MLflow reads the address as one of the web, and would leave out what follows
        raise UsageError(f"{address!a}: has {odd!a}, which MLflow does not take literally")
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError:
        what = "an address of MLflow, which needs the extra `mlflow`"
        raise UsageError(f"{address}: {what}: pip install 'lady-onnx[mlflow]'") from None
    if not mlflow.is_tracking_uri_set():
        # MLflow would make a database in this folder, and find nothing in it
        raise UsageError(f"{address}: no server is known; set MLFLOW_TRACKING_URI")
    folder = str(Path(tempfile.mkdtemp(prefix="lady-onnx-")).resolve())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # its bars would stand between our lines
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        found = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder))
        _fetched[found] = address
        return found
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MissingFileError(f"{address}: MLflow has no such model or version") from None
        raise make_server_error(address, error) from None
    except (OSError, ValueError) as error:
        what = f"cannot be fetched ({to_one_line(error)}); check MLFLOW_TRACKING_URI"
        raise LadyError(f"{address}: {what}") from None


def make_server_error(address: str, error: Exception) -> LadyError:
    """Return the error of a server that refuses a call, or that does not answer."""
    import requests

    reasons = [error, error.__cause__, error.__context__]
    if any(isinstance(e, requests.ConnectionError | requests.Timeout) for e in reasons):
        return LadyError(f"{address}: the server does not answer; check MLFLOW_TRACKING_URI")
    return LadyError(f"{address}: MLflow refuses ({to_one_line(error)})")


def find_model(address: str, folder: Path) -> Path:
    """Find the one ONNX file among what was fetched from an address of MLflow.

    Args:
        address: the address, for messages.
        folder: the folder, or the file itself.

    Raises:
        FormatError: there is none, there are several, or MLflow serves something else.
    """
    if folder.is_file():
        return folder
    models = sorted(folder.rglob("*.onnx"))
    if not models:
        raise FormatError(f"{address}: {explain_folder(folder)}")
    if len(models) > 1:
        names = ", ".join(str(m.relative_to(folder)) for m in models[:3])
        what = f"holds {len(models)} ONNX files ({names}); give the address of one of them"
        raise FormatError(f"{address}: {what}")
    if (folder / "MLmodel").exists():
        _check_served(address, folder, models[0])
    return models[0]


def _check_served(address: str, folder: Path, model: Path) -> None:
    """Check that what MLflow loads from a folder is an ONNX file, and nothing besides.

    Raises:
        FormatError: it is something else.
    """
    from mlflow.models import Model

    try:
        flavors = dict(Model.load(str(folder)).flavors)
        onnx = flavors.pop("onnx")
        served = flavors.pop("python_function", {"loader_module": SERVED, "data": onnx["data"]})
        places = {(folder / str(f["data"])).resolve() for f in (onnx, served)}
        # code that comes with a model stands before that of installed packages
        has_code = any(f.get("code") for f in (onnx, served))
        is_same = served["loader_module"] == SERVED and not flavors and not has_code
    except Exception as error:  # noqa: BLE001
        # whatever a file says that somebody sent
        what = f"its MLmodel cannot be read ({to_one_line(error)})"
        raise FormatError(f"{address}: {what}; log the model with mlflow.onnx") from None
    if not is_same or places != {model.resolve()}:
        what = f"MLflow would load something else than {model.name}"
        raise FormatError(f"{address}: {what}; log the model with mlflow.onnx alone")
