"""The documentation is true: examples run and print what it shows, and links lead somewhere.

The `sh` and `python` blocks of a page run from top to bottom in one temporary folder. A `text`
block that follows one of them, with nothing but blank lines between, is its output; `...` in it
stands for anything. An HTML comment in front of a block says what is special about it:

* `<!-- long: why -->`: it takes minutes or fetches something, and runs with the marker `long`;
* `<!-- not run: why -->`: it does not run here;
* `<!-- exits with 1 -->`: the exit code of its last command.
"""

from __future__ import annotations

import configparser
import doctest
import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import house

ROOT = Path(__file__).parent.parent
ADDRESSES = (
    "https://github.com/lady-onnx/lady-onnx/blob/main/",
    "https://raw.githubusercontent.com/lady-onnx/lady-onnx/main/",
)
"""What the links to files of the project begin with."""
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
RUN = [page for page in PAGES if page == "README.md" or page.startswith("docs/")]
"""The pages whose blocks run."""
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>[^\n]*?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$"
    r"(?:\n+^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`([\w./]+/[\w.]+\.(?:py|md|cfg|toml|svg|onnx)|[\w./]+/)`")
SECONDS = re.compile(r"\b\d+\.\d s\b")


@dataclass(frozen=True)
class Block:
    """A block of code on a page.

    Attributes:
        language: `sh` or `python`.
        code: what runs.
        output: what it prints on both streams, None where the page does not say.
        exit_code: the exit code.
        reason: why it does not always run, empty where it does.
        is_long: whether it runs with the marker `long`.
    """

    language: str
    code: str
    output: str | None
    exit_code: int
    reason: str
    is_long: bool


@functools.cache
def read_page(page: str) -> str:
    return (ROOT / page).read_text()


def list_blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that can run, in order."""
    for found in BLOCK.finditer(read_page(page)):
        if found["language"] not in ("sh", "python"):
            continue
        word, _, reason = (found["comment"] or "").partition(": ")
        is_special = word in ("long", "not run")
        code = re.fullmatch(r"exits with (\d+)", word)
        assert word in ("", "long", "not run") or code, (
            f"{page}: a comment of no known kind: {word}"
        )
        assert not is_special or reason, f"{page}: a block that does not run, and no reason"
        yield Block(
            found["language"],
            found["code"],
            found["output"],
            int(code[1]) if code else 0,
            reason if is_special else "",
            word == "long",
        )


def make_path(folder: Path) -> str:
    """The search path of a shell that finds this interpreter and this working copy's commands."""
    folder.mkdir()
    run = (
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(ROOT))}\n"
        f'exec {shlex.quote(sys.executable)} {{}}"$@"\n'
    )
    for name, arguments in (("lady-onnx", "-m lady_onnx "), ("python", ""), ("pip", "-m pip ")):
        script = folder / name
        script.write_text(run.format(arguments))
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def run_blocks(page: str, folder: Path, with_long: bool) -> None:
    """Run the blocks of a page, and compare what they print."""
    environment = {
        **os.environ,
        "PATH": make_path(folder / "bin"),
        "NO_COLOR": "1",
        # what pip says of its own settings belongs to the machine
        "PIP_QUIET": "2",
    }
    work = folder / "work"
    work.mkdir()
    for block in list_blocks(page):
        if block.reason and not (with_long and block.is_long):
            continue
        shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else ["python", "-c"]
        done = subprocess.run(
            [*shell, block.code],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == block.exit_code, f"{block.code}\n{done.stdout}"
        if block.output is not None:
            want, got = (SECONDS.sub("0.0 s", text) for text in (block.output, done.stdout))
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            is_as_shown = doctest.OutputChecker().check_output(want, got, flags)
            assert is_as_shown, f"{block.code}\nprints\n{done.stdout}\nand not\n{block.output}"


@pytest.mark.parametrize("page", [p for p in RUN if any(not b.reason for b in list_blocks(p))])
def test_blocks(page: str, tmp_path: Path) -> None:
    run_blocks(page, tmp_path, with_long=False)


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in RUN if any(b.is_long for b in list_blocks(p))])
def test_long_blocks(page: str, tmp_path: Path) -> None:
    run_blocks(page, tmp_path, with_long=True)


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for link in LINK.findall(read_page(page)):
        inside = next((link.removeprefix(a) for a in ADDRESSES if link.startswith(a)), None)
        if inside is None and re.match(r"\w+:", link):
            continue
        path, _, anchor = (link if inside is None else inside).partition("#")
        target = (ROOT / page).parent / path if inside is None else ROOT / path
        target = target if path else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), link


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_that_a_page_names_exist(page: str) -> None:
    paths = PATH.findall(read_page(page))
    assert paths
    for path in paths:
        places = (ROOT / path, ROOT / "lady_onnx" / path)
        assert any(place.exists() for place in places), path


def list_rows() -> list[tuple[list[str], str]]:
    """The rows of the table of packages, top to bottom: dotted names, and the last cell."""
    table = read_page("ARCHITECTURE.md").partition("## Packages")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    found = []
    for first, *_, last in rows:
        paths = [path.removeprefix("lady_onnx/") for path in re.findall("`([^`]+)`", first)]
        names = [path.removesuffix(".py").strip("/").replace("/", ".") for path in paths]
        found.append(([f"lady_onnx.{name}" for name in names], last.strip()))
    return found


def test_imports_point_down_the_table_of_packages() -> None:
    level = {name: k for k, (names, _) in enumerate(list_rows()) for name in names}

    def find_row(module: str) -> int | None:
        while module and module not in level:
            module = module.rpartition(".")[0]
        return level.get(module)

    imports = house.list_imports()
    for module in imports.keys() - {"lady_onnx"}:
        row = find_row(module)
        assert row is not None, f"{module} is in no row"
        for other in imports[module] - {"lady_onnx"}:
            below = find_row(other)
            assert below is not None, f"{other} is in no row"
            assert below >= row, f"{module} imports {other}, which stands above it"


def test_the_table_of_packages_says_what_reaches_onnx() -> None:
    imports = {m: others - {"lady_onnx"} for m, others in house.list_imports().items()}
    reaching = {module for module in imports if "onnx" in house.list_direct(module)}
    while more := {m for m, others in imports.items() if others & reaching} - reaching:
        reaching |= more
    for names, said in list_rows():
        inside = [m for m in reaching for name in names if f"{m}.".startswith(f"{name}.")]
        assert said == ("yes" if inside else "never"), names


@pytest.mark.parametrize("page", [p for p in PAGES if "\n::: " in read_page(p)])
def test_documented_names_exist(page: str) -> None:
    for name in re.findall(r"^::: ([\w.]+)", read_page(page), re.MULTILINE):
        module, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ImportError:
            assert getattr(importlib.import_module(module), last).__doc__, name


def test_links_of_the_readme_do_not_depend_on_where_it_is_shown() -> None:
    links = LINK.findall(read_page("README.md"))
    assert all(link.startswith("https://") for link in links)


def test_the_address_of_the_project_is_the_one_in_the_links() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["metadata"]["url"] + "/blob/main/" == ADDRESSES[0]
