"""Which execution provider of onnxruntime runs a model."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ExecutionError, check_choice
from .installation import load_onnxruntime

PROVIDERS = ("auto", "cpu", "cuda")
CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


def choose_provider(wanted: str = "auto") -> str:
    """Return onnxruntime's name of a provider: CUDA only where its libraries really load.

    Args:
        wanted: one of `PROVIDERS`.

    Raises:
        LadyError: `wanted` is not one of them, or it is `cuda` and CUDA cannot be used.
    """
    check_choice("provider", wanted, PROVIDERS)
    if wanted == "cpu":
        return CPU_PROVIDER
    ort = load_onnxruntime()
    if CUDA_PROVIDER in ort.get_available_providers():
        if _is_cuda_usable(ort):
            return CUDA_PROVIDER
        why = "its libraries (CUDA, cuDNN) do not load, or there is no device"
    else:
        why = "this onnxruntime was built without it"
    if wanted == "cuda":
        raise ExecutionError(f"--provider cuda: {why}; install them, or use --provider cpu")
    return CPU_PROVIDER


def _is_cuda_usable(ort: Any) -> bool:
    """Try the libraries one by one, as onnxruntime would, but quietly."""
    # A session that cannot load them complains on the terminal, and runs on the CPU instead.
    is_windows = os.name == "nt"
    try:
        # The libraries of CUDA load on machines without a device too, so the driver is asked first.
        cuda = ctypes.CDLL("nvcuda.dll" if is_windows else "libcuda.so.1")
        count = ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return False
        with _silence_output():
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
            folder = Path(ort.__file__).parent / "capi"
            if is_windows:
                ctypes.CDLL(str(folder / "onnxruntime_providers_cuda.dll"))
            else:
                shared = folder / "libonnxruntime_providers_shared.so"
                ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
                ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _silence_output() -> Iterator[None]:
    """Keep everything from the terminal, also what C++ writes.

    C++ writes to the file descriptors, so these are turned away, and not Python's streams.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
            yield
    finally:
        for descriptor, old in zip((1, 2), saved, strict=True):
            os.dup2(old, descriptor)
            os.close(old)
