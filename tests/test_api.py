"""The public names, their modules and their signatures are those of `api.txt`.

A change of `api.txt` is a change of what users call: it belongs in `CHANGELOG.md` as well.
`python -m tests.test_api > tests/api.txt` writes it anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import lady_onnx
from lady_onnx import rules

SNAPSHOT = Path(__file__).parent / "api.txt"
HEAD = "The public names, one a line: `python -m tests.test_api > tests/api.txt` writes this anew."


def describe_members(name: str, kind: type) -> Iterator[str]:
    """The fields, properties and methods of a class that are its own or its public bases'."""
    fields = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    for field in fields.values():
        yield f"{name}.{field.name}: {field.type}"
    for member in sorted(set(dir(kind)) - fields.keys()):
        home = next(c for c in kind.__mro__ if member in vars(c) or c is object)
        if member.startswith("_") or not home.__module__.startswith("lady_onnx"):
            continue
        value = inspect.getattr_static(kind, member)
        if isinstance(value, property):
            result = inspect.signature(value.fget).return_annotation if value.fget else ""
            yield f"{name}.{member} -> {result}"
        elif isinstance(value, (types.FunctionType, classmethod, staticmethod)):
            yield f"{name}.{member}{inspect.signature(getattr(kind, member))}"
        else:
            yield f"{name}.{member}"


def describe_name(module: types.ModuleType, name: str) -> Iterator[str]:
    """A public name with its signature and the module that it is defined in, and its members."""
    value = getattr(module, name)
    full = f"{module.__name__}.{name}"
    home = getattr(value, "__module__", None)
    origin = f"  [{home}]" if home and home.startswith("lady_onnx") else ""
    if isinstance(value, type):
        # a dataclass says the same by its fields, an exception by its name
        own = "__init__" in vars(value) and not (
            dataclasses.is_dataclass(value) or getattr(value, "_is_protocol", False)
        )
        yield f"class {full}{inspect.signature(value) if own else ''}{origin}"
        yield from describe_members(full, value)
    elif inspect.isfunction(value):
        yield f"def {full}{inspect.signature(value)}{origin}"
    elif isinstance(value, types.ModuleType):
        yield f"module {full}  [{value.__name__}]"
    elif typing.get_origin(value):
        yield f"alias {full}"
    else:
        yield f"{full}: {type(value).__name__}{origin}"


def describe_api() -> str:
    """All public names of the package and of its rules, sorted, one a line."""
    lines = [
        line
        for module in (lady_onnx, rules)
        for name in sorted(module.__all__)
        for line in describe_name(module, name)
    ]
    return "\n".join([HEAD, "", *lines])


def test_the_public_names_are_those_of_the_snapshot() -> None:
    assert describe_api().splitlines() == SNAPSHOT.read_text().splitlines()


if __name__ == "__main__":
    print(describe_api())
