"""Results say what they are in a line, a few lines, and plain JSON types, without arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lady_onnx as lady
from lady_onnx.reporting import SCHEMA_VERSION, Report, format_table

from .helpers.networks import perceptron

WIDTHS = (4, 40, 50)


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    model = perceptron(WIDTHS)
    noisy = lady.attack(lady.permute(model, 1).graph, "noise", 0.1)
    return {
        "symmetry": lady.find_groups(model),
        "permuted": lady.permute(model, 1),
        "attacked": noisy,
        "resync": lady.resync(model, noisy.graph),
        "check": lady.check(model, noisy.graph),
        "other": lady.check(model, perceptron((4, 7, 5))),
        "verification": lady.verify(model, noisy.graph),
    }


NAMES = ("symmetry", "permuted", "attacked", "resync", "check", "other", "verification")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_printed_as_a_few_lines(name: str, reports: dict[str, Report]) -> None:
    report = reports[name]
    assert repr(report) == f"<{type(report).__name__}: {report.headline()}>"
    assert "\n" not in report.headline()
    assert "array(" not in repr(report) + str(report)
    assert str(report) == report.summary()
    assert str(report).splitlines()[0] == report.headline()
    assert len(str(report).splitlines()) < 40


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_plain_json_with_the_version_of_its_schema(
    name: str, reports: dict[str, Report]
) -> None:
    fields = reports[name].to_dict()
    assert fields["schema_version"] == SCHEMA_VERSION
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields


def test_headlines_give_the_figures(reports: dict[str, Report]) -> None:
    assert reports["symmetry"].headline() == (
        "2 groups of interchangeable units, 90 units, 373.4 symmetry bits"
    )
    assert reports["permuted"].headline().endswith("units moved in 2 groups")
    assert reports["attacked"].headline() == "5 weights were altered"
    assert reports["resync"].headline() == reports["check"].headline()
    assert reports["resync"].headline().startswith("altered: weights differ by up to ")
    assert reports["other"].headline().startswith("unrelated: ")
    assert reports["verification"].headline().startswith("NOT equal: output 'h2' differs by up to ")


def test_at_most_ten_entries_are_listed_the_worst_first() -> None:
    symmetry = lady.find_groups(perceptron((4, *range(3, 30))))
    lines = symmetry.details()
    assert [line.split()[2] for line in lines[1:11]] == [str(n) for n in range(29, 19, -1)]
    assert lines[11] == "and 17 more"
    assert len([line for line in symmetry.details(None) if "channels" in line]) == 27


def test_exact_matches_are_counted_and_not_listed(reports: dict[str, Report]) -> None:
    model = perceptron(WIDTHS)
    found = lady.resync(model, lady.permute(model, 1).graph)
    assert found.details() == ["2 groups matched exactly"]
    assert len(found.details(None)) == 3
    groups = [line.split()[0] for line in reports["resync"].details()[1:3]]
    assert sorted(groups) == ["w0:1", "w1:1"]


def test_notebooks_are_given_html(reports: dict[str, Report]) -> None:
    shown = reports["symmetry"]._repr_html_()
    assert shown.startswith("<div><b>2 groups of interchangeable units")
    assert "<pre>group" in shown

    class Odd(Report):
        def headline(self) -> str:
            return "a < b"

    assert Odd()._repr_html_() == "<div><b>a &lt; b</b></div>"


def test_arrays_and_infinities_become_plain() -> None:
    class Made(Report):
        def to_fields(self) -> dict[str, object]:
            return {"a": np.array([[1.5, np.inf]]), "b": (np.float32(2), {"c": np.bool_(True)})}

    assert Made().to_dict() == {
        "schema_version": SCHEMA_VERSION,
        "a": [[1.5, None]],
        "b": [2.0, {"c": True}],
    }


def test_a_table_of_nothing_is_no_table() -> None:
    assert format_table(("a", "b"), []) == []
