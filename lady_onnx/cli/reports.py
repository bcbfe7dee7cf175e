"""The reports that `check` and `resync` write: one object of JSON, and a page to read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..graph.files import open_atomically
from ..graph.model import Graph
from ..reporting import to_plain
from .files import claim_destination

if TYPE_CHECKING:
    from ..pipeline.checking import Check
    from ..pipeline.result import Resync

OWN_OPTIONS = (
    "run",
    "command",
    "json",
    "verbosity",
    "rules",
    "report",
    "html",
    "reference",
    "suspect",
)
"""Arguments that change no result, or that the record has elsewhere."""


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the reports."""
    parser.add_argument("--report", metavar="R.json", help="write the report")
    parser.add_argument("--html", metavar="R.html", help="write a page to read, print and keep")


@dataclass(frozen=True)
class Reports:
    """Where the reports of a call go.

    Attributes:
        json, html: the files, None where nobody asked.
    """

    json: Path | None
    html: Path | None

    def write(
        self,
        found: Check | Resync,
        fields: Mapping[str, Any],
        args: argparse.Namespace,
        models: Sequence[Graph],
        written: Mapping[str, Path | None],
        besides: Mapping[str, Sequence[Path]],
    ) -> None:
        """Write the reports.

        Args:
            found: the result.
            fields: those of its JSON object.
            args: the arguments of the call.
            models: the reference and the suspect.
            written: by role the other files that the call wrote.
            besides: by role the files that the models were read with.
        """
        if self.json is None and self.html is None:
            return
        from ..report.record import make_record

        files: dict[str, list[Path]] = {
            role: sorted(graph.files)
            for role, graph in zip(("reference", "suspect"), models, strict=True)
        }
        files |= {role: list(paths) for role, paths in besides.items()}
        for role, path in written.items():
            if path is not None:
                data = path.with_name(f"{path.name}.data")
                files[role] = [path, *([data] if role == "output" and data.exists() else [])]
        options = {n: v for n, v in vars(args).items() if n not in OWN_OPTIONS}
        record = make_record(args.command, options, files)
        page = b""
        if self.html is not None:
            from ..report.page import draw_page

            drawn = draw_page(found, record, models[0], models[1], fields.get("left_out", ()))
            page = drawn.encode(errors="backslashreplace")
        if self.json is not None:
            text = json.dumps({**fields, "record": to_plain(record)}, allow_nan=False, indent=1)
            with open_atomically(self.json) as file:
                file.write(text.encode())
        if self.html is not None:
            with open_atomically(self.html) as file:
                file.write(page)


def claim_reports(args: argparse.Namespace, taken: set[Path]) -> Reports:
    """Check that the reports can be written; see `claim_destination`."""
    return Reports(
        *(claim_destination(Path(p), taken) if p else None for p in (args.report, args.html))
    )
