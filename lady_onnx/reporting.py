"""How results present themselves: as a line, as a few lines, as plain JSON types, in a notebook.

`Report` is a mixin of the public result classes. A class says its verdict in `headline`, lists what
is behind it in `details`, and names the fields of its JSON object in `to_fields`; everything else
follows from these three. This module knows no result and imports nothing from the project.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

SCHEMA_VERSION = 1
"""The version of the JSON objects; it is raised when a field is renamed, or changes its
meaning or its type. A new field does not raise it.
"""

Progress = Callable[[int, int], None]
"""Is called with the number of top groups that are matched, and the number of all."""

MAX_SHOWN_ENTRIES = 10
"""The number of entries, the worst ones, that a summary lists."""


@runtime_checkable
class HasFields(Protocol):
    """Something that names the fields of its JSON object itself."""

    def to_fields(self) -> dict[str, Any]:
        """Return the fields; the values may be of any type that `to_plain` takes."""


@runtime_checkable
class HasElements(Protocol):
    """An array or a number of numpy, which is not imported here: `--version` has to be quick."""

    dtype: Any
    """The type of the elements."""

    def tolist(self) -> Any:
        """Return the elements as lists of Python's own types, or as one of these."""


class Report:
    """Mixin of a result that says what it is in a few lines, and never prints an array.

    A subclass defines `headline`, and where there is more to say `details` and `to_fields`. A
    dataclass needs `repr=False`, or its own `__repr__` hides the one of this class.

    >>> @dataclasses.dataclass(frozen=True, repr=False)
    ... class Count(Report):
    ...     units: int
    ...
    ...     def headline(self) -> str:
    ...         return f"{self.units} units"
    >>> Count(3)
    <Count: 3 units>
    >>> Count(3).to_dict()
    {'schema_version': 1, 'units': 3}
    """

    def headline(self) -> str:
        """Say the result with its figures in one line."""
        raise NotImplementedError

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List what is behind the headline, the worst first, line by line.

        Args:
            limit: the number of entries of each kind to list at most; None for all.
        """
        return []

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object; the values may be of any type `to_plain` takes."""
        return list_fields(self)

    def summary(self, limit: int | None = MAX_SHOWN_ENTRIES) -> str:
        """Return the headline and the details as text of a few lines.

        Args:
            limit: the number of entries of each kind to list at most; None for all.
        """
        return "\n".join([self.headline(), *self.details(limit)])

    def to_dict(self) -> dict[str, Any]:
        """Return the result in plain JSON types, with the version of its schema."""
        fields: dict[str, Any] = to_plain(self.to_fields())
        return {"schema_version": SCHEMA_VERSION, **fields}

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def _repr_html_(self) -> str:
        """Return the summary as HTML, for notebooks."""
        import html  # only notebooks need it

        rest = html.escape("\n".join(self.details()))
        first = f"<b>{html.escape(self.headline())}</b>"
        return f"<div>{first}{f'<pre>{rest}</pre>' if rest else ''}</div>"


def list_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, not copied."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def to_plain(value: Any) -> Any:
    """Return a value in plain JSON types.

    Infinities and NaN, which JSON does not have, become None; arrays and tuples become lists;
    reports and other dataclasses become dictionaries of their fields; anything else becomes text.

    >>> import numpy as np
    >>> to_plain({"margin": math.inf, "unit": np.int64(3), "index": np.array([[0], [1]])})
    {'margin': None, 'unit': 3, 'index': [[0], [1]]}
    """
    if value is None or isinstance(value, str | int):
        return value
    # numpy's float64 is a float of Python, and becomes a plain one.
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, HasElements):
        # Index arrays are long, and have no infinities to look for.
        is_plain = value.dtype.kind in "biu"
        return value.tolist() if is_plain else to_plain(value.tolist())
    if isinstance(value, HasFields):
        return to_plain(value.to_fields())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(list_fields(value))
    return str(value)


def format_share(share: float) -> str:
    """Write a share in per cent, rounded down: 100.0 % means all.

    >>> format_share(0.09999), format_share(1)
    ('9.9 %', '100.0 %')
    """
    return f"{math.floor(1000 * share) / 10:.1f} %"


def count_things(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> count_things(1, "unit"), count_things(3, "unit"), count_things(2, "bias", "biases")
    ('1 unit', '3 units', '2 biases')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def to_printable(text: str) -> str:
    r"""Return a text of which nothing controls a terminal: names of files may hold anything.

    >>> to_printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quote_name(text: str) -> str:
    r"""Return a name as a quoted text of a DOT file.

    >>> print(quote_name('a"b'))
    "a\"b"
    """
    escaped = to_printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], limit: int | None = None
) -> list[str]:
    r"""Return the lines of a table with aligned columns.

    Args:
        header: the names of the columns.
        rows: the cells, of any type that can be printed.
        limit: the number of rows to list at most, the first ones; None for all.

    >>> print(*format_table(("group", "size"), [("w0:1", 6), ("w1:1", 5)], 1), sep="\n")
    group  size
    w0:1   6
    and 1 more
    """
    if not rows:
        return []
    shown = rows if limit is None else rows[:limit]
    cells = [list(header), *([str(cell) for cell in row] for row in shown)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    if len(shown) < len(rows):
        lines.append(f"and {len(rows) - len(shown)} more")
    return lines
