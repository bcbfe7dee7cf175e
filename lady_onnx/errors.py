"""The one family of errors that lady-onnx raises on purpose."""

from __future__ import annotations

from collections.abc import Collection


class LadyError(Exception):
    """A call or an input that cannot be used. The message is one line: the file, the place, the mend."""


class ArchitectureError(LadyError):
    """Two models that are not the same network."""


class UnknownStructure(LadyError):
    """A node that the analysis cannot describe; the engine turns it into pins."""


def check_whole_number(name: str, value: object, least: int = 0) -> None:
    """Raises LadyError where an argument is no whole number from `least` on."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise LadyError(f"{name} is a whole number from {least} on, not {value!r}")


def check_choice(name: str, value: object, known: Collection[str]) -> None:
    """Raises LadyError where an argument is none of these."""
    if value not in known:
        raise LadyError(f"{name} is one of {', '.join(known)}, not {value!r}")


def to_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
