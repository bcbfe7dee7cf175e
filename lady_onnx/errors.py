"""The errors that lady-onnx raises on purpose, and their stable codes.

Every error is a `LadyError`. Its message is one line that names the file, the place in it, and what
to do. With `--json` the command line prints it as an object with one of these codes:

| code | raised as | meaning |
| --- | --- | --- |
| `usage` | `UsageError` | the call cannot be read, or its arguments contradict each other |
| `not_found` | `MissingFileError` | a file that the call names does not exist |
| `not_onnx` | `FormatError` | a file, a folder or an address is not an ONNX model |
| `unknown_name` | `UnknownNameError` | the model has no weight, group or axis of that name |
| `unwritable` | `OutputError` | a result cannot be written to its place |
| `architecture` | `ArchitectureError` | two models are not the same network |
| `structure` | `UnknownStructureError` | a node cannot be described |
| `runtime` | `ExecutionError` | onnxruntime is missing or broken, or does not run a model |
| `unusable` | `LadyError` | any other input that cannot be used |
| `io` | `OSError` | the operating system refused to read or write |
| `memory` | `MemoryError` | there is not enough memory |
| `internal` | any other error | a fault of lady-onnx |

Codes are never renamed; new ones may be added. The exit code is 2 for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

MIN_NAME_SIMILARITY = 0.6
"""A known name is suggested where its similarity, `difflib`'s ratio, is at least this: its default.
"""
MALFORMED_NODE_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a rule may raise at a node that is not as its specification says."""


class LadyError(Exception):
    """A call or an input that cannot be used.

    The message is one line: the file, the place in it, and what to do.

    Attributes:
        code: one of the codes in the table of this module.
    """

    code: ClassVar[str] = "unusable"


def make_nan_error(file: str, weight: str) -> LadyError:
    """Return the error of a file of which a weight holds NaN."""
    what = f"weight '{weight}' holds NaN; the file is damaged, export it again"
    return LadyError(f"{file}: {what}")


class UsageError(LadyError):
    """A call that cannot be read, or whose arguments contradict each other."""

    code = "usage"


class MissingFileError(LadyError):
    """A file that does not exist."""

    code = "not_found"


class FormatError(LadyError):
    """Something that is not an ONNX model."""

    code = "not_onnx"


class UnknownNameError(LadyError):
    """A weight, a group or an axis that the model does not have."""

    code = "unknown_name"


class OutputError(LadyError):
    """A place that a result cannot be written to."""

    code = "unwritable"


class ArchitectureError(LadyError):
    """Two models that are not the same network."""

    code = "architecture"


class UnknownStructureError(LadyError):
    """A node that the analysis cannot describe; the engine turns it into pins."""

    code = "structure"


class ExecutionError(LadyError):
    """An onnxruntime that is missing or broken, or a model that it does not load or run."""

    code = "runtime"


def check_whole_number(name: str, value: object, minimum: int = 0) -> None:
    """Raise LadyError unless an argument is a whole number of at least `minimum`.

    Args:
        name: the argument, for the message.
        value: what was given. Truth values are not numbers.
        minimum: the smallest number that is allowed.
    """
    # numpy's integers are no `int`, but have an index.
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < minimum:
        raise LadyError(f"{name} is a whole number from {minimum} on, not {value!r}")


def check_threads(count: int | None) -> None:
    """Check a number of threads, which may be left open; raises `LadyError` for a wrong one."""
    if count is not None:
        check_whole_number("threads", count, 1)


def check_choice(name: str, value: object, known: Collection[str]) -> None:
    """Raise LadyError unless an argument is one of some known words.

    Args:
        name: the argument, for the message.
        value: what was given.
        known: the words that are allowed.
    """
    if value not in known:
        raise LadyError(f"{name} is one of {', '.join(known)}, not {value!r}")


def to_one_line(error: BaseException) -> str:
    r"""Return the message of an error in one line, or the name of its class where it has none.

    >>> to_one_line(ValueError("two\n  lines"))
    'two lines'
    >>> to_one_line(KeyError())
    'KeyError'
    """
    return " ".join(str(error).split()) or type(error).__name__


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known name closest to an unknown one, or an empty text.

    Args:
        name: the unknown name.
        known: the names that exist.

    >>> suggest_name("conv1.wieght", ["conv1.weight", "conv2.bias"])
    "did you mean 'conv1.weight'? "
    >>> suggest_name("x", ["conv1.weight"])
    ''
    """
    import difflib  # only mistakes need it

    close = difflib.get_close_matches(name, known, 1, MIN_NAME_SIMILARITY)
    return f"did you mean '{close[0]}'? " if close else ""
