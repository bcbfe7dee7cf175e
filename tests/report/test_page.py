"""Reports to keep: a page without scripts, and a record that shows when a file was exchanged."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.report import page
from lady_onnx.report.page import STATES, draw_page
from lady_onnx.report.record import Record, make_record

from ..helpers.networks import convolutional, perceptron, weights, with_weights

MAX_BYTES = 300_000
VOID = {"meta", "link", "br", "img", "path", "rect"}


class Reader(HTMLParser):
    """Reads a page: which elements are open, which there were, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(n, v or "") for n, v in attrs]
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(n, v or "") for n, v in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    """Read a page, and check what holds for every page."""
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(text.encode()) < MAX_BYTES
    assert not {"script", "img", "link", "iframe", "object"} & set(reader.seen)
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "src", "xlink:href")
        assert "//" not in value or name == "xmlns"
    assert "url(" not in text
    assert "@import" not in text
    return reader


def make_suspects() -> dict[str, onnx.ModelProto]:
    """By verdict a suspect."""
    model = convolutional("Relu", 0)
    changed = weights(model)
    name = max(changed, key=lambda n: changed[n].ndim)
    changed[name] = changed[name].copy()
    changed[name][1] *= 7
    return {
        "identical": model,
        "permuted": lady.permute(model, 1).model,
        "rescaled": lady.permute(lady.attack(model, "rescale", 0.5).graph, 1).model,
        "altered": lady.permute(lady.attack(model, "noise", 0.02).graph, 1).model,
        "tampered": lady.permute(with_weights(model, changed), 1).model,
        "unrelated": perceptron((5, 9, 8, 7)),
    }


def draw(suspect: onnx.ModelProto) -> str:
    reference = load_graph(convolutional("Relu", 0))
    found = lady.check(reference, suspect)
    record = make_record("check", {}, {})
    return draw_page(found, record, reference, load_graph(suspect))


@pytest.mark.parametrize("verdict", ["identical", "permuted", "rescaled", "altered", "unrelated"])
def test_every_verdict_has_a_page(verdict: str) -> None:
    suspect = make_suspects()[verdict]
    reader = read(draw(suspect))
    assert lady.check(convolutional("Relu", 0), suspect).headline().split(": ", 1)[1] in reader.text
    assert f"{verdict}" in reader.text
    assert "You may conclude:" in reader.text
    assert "You may not conclude:" in reader.text
    assert (", up to rounding" in reader.text) == (verdict == "rescaled")


def test_weights_are_coloured_by_what_was_done_to_them() -> None:
    for verdict, state in (("permuted", "moved"), ("rescaled", "rescaled"), ("altered", "altered")):
        assert STATES[state] in read(draw(make_suspects()[verdict])).text
    text = draw(make_suspects()["permuted"])
    assert text.count('<rect class="s-moved"') > 2
    assert 'rect class="s-tampered"' not in text
    model = perceptron((40, 60, 60), seed=0)
    changed = weights(model)
    changed["w1"] = changed["w1"].copy()
    changed["w1"][:, 7] *= 3
    suspect = load_graph(with_weights(model, changed))
    found = lady.check(model, suspect)
    assert found.verdict == "tampered"
    drawn = draw_page(found, make_record("check", {}, {}), load_graph(model), suspect)
    reader = read(drawn)
    assert drawn.count('<rect class="s-tampered"') == 1
    assert "scaled: units were multiplied in a way that changes the function" in reader.text
    # nothing was done to the weight as a whole, and nothing to a stranger
    assert "whole weights" not in reader.text
    noisy = lady.attack(suspect, "noise", 0.001).graph
    found = lady.check(model, noisy)
    told = read(draw_page(found, make_record("check", {}, {}), load_graph(model), noisy)).text
    assert "What was done to whole weightsnoise, level" in told.replace("\n", "")
    other = convolutional("Relu", 1)
    assert lady.check(convolutional("Relu", 0), other).verdict == "unrelated"
    stranger = read(draw(other)).text
    assert "whole weights" not in stranger
    assert "changed as a whole" not in stranger
    assert "put back" in reader.text


def test_the_page_says_no_more_than_was_shown() -> None:
    """No direction, no change of equal weights, and nothing of what was left out."""
    model = perceptron((5, 9, 8), seed=1)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    next(n for n in other.graph.node if n.op_type == "Relu").op_type = "Softsign"
    record = make_record("check", {}, {})
    for suspect, is_changed in ((other, False), (lady.attack(model, "noise", 0.01).model, True)):
        found = lady.check(model, suspect)
        assert found.verdict == "altered", found.reason
        told = read(draw_page(found, record, load_graph(model), load_graph(suspect))).text
        assert "One of the two was made from the other" in told
        assert "which of the two was first" in told
        assert ("weights were changed" in told) == is_changed
    found = lady.check(model, model)
    names = ["a.bias", "<b>"]
    text = draw_page(found, record, load_graph(model), load_graph(model), names)
    assert "Not compared: 'a.bias', '<b>'" in read(text).text
    repaired = lady.resync(model, make_tampered(model), repair=True)
    text = draw_page(repaired, record, load_graph(model), repaired.graph)
    assert "Units were repaired after that" in read(text).text


def make_tampered(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = weights(model)
    changed["w1"] = changed["w1"].copy()
    changed["w1"][:, 2] *= 30
    return with_weights(model, changed)


def test_hostile_names_stay_text() -> None:
    """Names of weights, files and nodes come from a stranger."""
    model = perceptron((5, 9, 8), seed=1)
    evil = "<script>alert(1)</script>\"'&" + "x" * 5000
    for tensor in model.graph.initializer:
        if tensor.name == "w0":
            tensor.name = evil
    for node in model.graph.node:
        node.input[:] = [evil if n == "w0" else n for n in node.input]
    suspect = lady.permute(lady.attack(model, "noise", 0.01).graph, 1).graph
    record = Record("1", "check", {evil: evil}, "now", ())
    reader = read(draw_page(lady.check(model, suspect), record, load_graph(model), suspect))
    assert "<script>alert(1)</script>" in reader.text


def test_a_large_model_has_a_small_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_CELLS", 3)
    text = draw(make_suspects()["permuted"])
    assert text.count("<rect class=") <= 3
    assert "and 2 weights after it" in text or "and 1 weight after it" in text


def test_of_many_weights_no_names_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_TITLES", 1)
    assert draw(make_suspects()["permuted"]).count("<title>") == 1


def test_of_a_part_that_is_shared_no_weights_are_drawn() -> None:
    """Its weights are those of two files: which of them is which is not told by names."""
    model = perceptron((12, 60, 50, 40), seed=0)
    other = perceptron((12, 60, 50, 40, 30), seed=1, out=7)
    shared = {n: a for n, a in weights(model).items() if n[1:] in "012"}
    suspect = load_graph(with_weights(other, {**weights(other), **shared}))
    found = lady.check(model, suspect)
    assert found.verdict == "derived"
    text = draw_page(found, make_record("check", {}, {}), load_graph(model), suspect)
    assert '<rect class="s-' not in text
    assert "A part of one was made from the other" in read(text).text


def test_the_record_holds_what_was_read_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = perceptron((5, 9, 8), seed=1)
    onnx.save(model, tmp_path / "a.onnx")
    onnx.save(lady.permute(model, 1).model, tmp_path / "b.onnx")
    ask = ["resync", *(str(tmp_path / f"{n}.onnx") for n in "ab"), "-o", str(tmp_path / "c.onnx")]
    ask += ["--save-permutation", str(tmp_path / "p.json"), "--report", str(tmp_path / "r.json")]
    assert main([*ask, "--html", str(tmp_path / "r.html"), "--verify", "run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    told = json.loads((tmp_path / "r.json").read_text())
    record = told.pop("record")
    assert told == printed
    assert (record["command"], record["options"]["verify"]) == ("resync", "run")
    assert record["version"] == lady.__version__
    files = {f["role"]: f for f in record["files"]}
    names = {
        "reference": "a.onnx",
        "suspect": "b.onnx",
        "output": "c.onnx",
        "permutation": "p.json",
    }
    assert files.keys() == names.keys()
    for role, name in names.items():
        raw = (tmp_path / name).read_bytes()
        assert files[role]["sha256"] == hashlib.sha256(raw).hexdigest()
        assert files[role]["bytes"] == len(raw)
    reader = read((tmp_path / "r.html").read_text())
    assert files["output"]["sha256"] in reader.text
    assert "The outputs of the suspect before and after putting back are the same" in reader.text
    # the permutation of the report does the same once more
    again = lady.permute(tmp_path / "b.onnx", permutations=tmp_path / "p.json").graph
    assert all(np.array_equal(again.array(n), a) for n, a in weights(model).items())


def test_check_writes_reports_and_overwrites_no_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(perceptron((5, 9, 8)), path)
    ask = ["check", str(path), str(path), "--report", str(tmp_path / "r.json")]
    assert main([*ask, "--html", str(tmp_path / "r.html")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["accepted"] is True
    assert "identical" in read((tmp_path / "r.html").read_text()).text
    capsys.readouterr()
    assert main([*ask, "--html", str(path)]) == 2
    assert "would overwrite an input" in capsys.readouterr().err


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(lady.LadyError, match="cannot be read again for the report"):
        make_record("check", {}, {"reference": [tmp_path / "gone.onnx"]})


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out_on_a_phone_or_a_desk(tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    for verdict, suspect in make_suspects().items():
        # a page in a frame, whose widths a script of the outer page reads
        inner = html.escape(draw(suspect), quote=True)
        measure = (
            "const d = f.contentDocument; document.title = "
            "d.documentElement.scrollWidth + ' ' + d.querySelectorAll('h2').length"
        )
        outer = tmp_path / "outer.html"
        outer.write_text(
            '<!DOCTYPE html><meta charset="utf-8"><title>0 0</title>'
            f'<iframe id="f" width="{width}" height="900" style="border:0" '
            f'srcdoc="{inner}" onload="{measure}"></iframe>'
        )
        ask = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
        ask += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
        ask += ["--dump-dom", outer.as_uri()]
        dumped = subprocess.run(ask, capture_output=True, text=True, timeout=120, check=True).stdout
        title = re.search(r"<title>(\d+) (\d+)</title>", dumped)
        assert title is not None
        assert 0 < int(title[1]) <= width, verdict
        assert int(title[2]) >= 2


def test_what_does_not_print_is_replaced() -> None:
    text = page.escape("a\x00b\u202ec\x1b<")
    assert text == "a\ufffdb\ufffdc\ufffd&lt;"
