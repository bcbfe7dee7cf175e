"""The house's figures: its rooms' sizes, which way its imports point, where operators are named.

`python -m tests.house` prints them; `test_house.py` holds them to `LIMITS`.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import onnx

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "lady_onnx", ROOT / "converters")
MAX_LINE_LENGTH = 100
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)
"""Each adds one way through a function."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def read_modules() -> dict[str, ast.Module]:
    """The syntax tree of every module by its dotted name."""
    found = {}
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name if name.startswith("lady_onnx") else f"lady_onnx.{name}"] = ast.parse(
                path.read_text()
            )
    return found


@functools.cache
def read_lines() -> dict[str, list[str]]:
    """The lines of every module by its path, from the root of the repository."""
    paths = sorted(path for folder in SOURCES for path in folder.rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text().splitlines() for path in paths}


def package_of(module: str) -> str:
    """The package that a module lies in; a top-level one, and an `__init__`, is its own."""
    is_package = any(other.startswith(module + ".") for other in read_modules())
    return module if is_package or module.count(".") < 2 else module.rpartition(".")[0]


def list_imports() -> dict[str, set[str]]:
    """By every module those of the project that it imports, anywhere in it, for types as well."""
    modules = read_modules()
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = node.module or ""
            if node.level:
                is_package = any(other.startswith(name + ".") for other in modules)
                above = (name if is_package else name.rpartition(".")[0]).split(".")
                base = ".".join(
                    [*above[: len(above) - node.level + 1], *filter(None, [node.module])]
                )
            if base.split(".")[0] == "lady_onnx":
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    found[name].add(full if full in modules else base)
    return found


def list_circles() -> list[list[str]]:
    """Modules, and packages, that import each other in a circle.

    They are strongly connected components of more than one.
    """
    modules = {name: others - {name} for name, others in list_imports().items()}
    packages: dict[str, set[str]] = defaultdict(set)
    for name, others in modules.items():
        packages[package_of(name)] |= {package_of(o) for o in others} - {package_of(name)}
    return [c for graph in (modules, packages) for c in _components(graph) if len(c) > 1]


def _components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def count_levels() -> dict[str, int]:
    """By every package the number of packages on the longest way down from it, itself included."""
    packages: dict[str, set[str]] = {package_of(name): set() for name in read_modules()}
    for name, others in list_imports().items():
        packages[package_of(name)] |= {package_of(o) for o in others} - {package_of(name)}
    levels: dict[str, int] = {}
    waiting = sorted(packages)
    while waiting:
        ready = [p for p in waiting if packages[p] <= levels.keys()]
        if not ready:
            # a circle has no levels: `list_circles` names it
            return levels
        levels.update(
            {p: 1 + max((levels[other] for other in packages[p]), default=0) for p in ready}
        )
        waiting = [p for p in waiting if p not in levels]
    return levels


def list_direct(module: str) -> set[str]:
    """What a module imports from outside the project: the first part of each name."""
    found = set()
    for node in ast.walk(read_modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


def list_reached(package: str) -> set[str]:
    """What a package imports from outside the project, through the modules of the project too."""
    imports, modules = list_imports(), read_modules()
    waiting = [m for m in modules if m == package or m.startswith(package + ".")]
    seen, outside = set(waiting), set()
    while waiting:
        name = waiting.pop()
        outside |= list_direct(name)
        for other in imports[name] - seen - {"lady_onnx"}:
            seen.add(other)
            waiting.append(other)
    return outside


def list_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method with the module that it lies in."""
    for module, tree in read_modules().items():
        yield from ((module, node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def length_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """The number of lines of a function or class, from its first decorator on."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return (node.end_lineno or first) - first + 1


def complexity_of(function: ast.AST) -> int:
    """McCabe's cyclomatic complexity, as ruff's C901 counts it: functions inside it add theirs."""
    total = 1
    for node in ast.walk(function):
        if isinstance(node, ast.Match):
            total += len(node.cases)
        elif isinstance(node, BRANCHES) or (isinstance(node, FUNCTIONS) and node is not function):
            total += 1
    return total


@functools.cache
def list_operators() -> set[str]:
    """The names of all operators that onnx knows, and of those with a rule."""
    from lady_onnx.rules import REGISTRY

    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    return {n for n in known | {operator for _, operator in REGISTRY} if len(n) > 2}


def list_named_operators() -> list[str]:
    """Where an operator is named, as a string of its own, outside `rules` and `vocabulary`."""
    found = []
    for module, tree in read_modules().items():
        if module.startswith(("lady_onnx.rules", "lady_onnx.vocabulary", "lady_onnx.converters")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in list_operators():
                found.append(f"{module}:{node.lineno}: {node.value}")
    return found


def list_undocumented() -> list[str]:
    """Public modules, classes, functions and methods without a docstring."""
    found = []
    for module, tree in read_modules().items():
        waiting: list[tuple[str, ast.AST]] = [(module, tree)]
        while waiting:
            name, node = waiting.pop()
            if not ast.get_docstring(node):  # type: ignore[arg-type]
                found.append(name)
            for child in ast.iter_child_nodes(node):
                is_named = isinstance(
                    child, (*FUNCTIONS, ast.ClassDef)
                ) and not child.name.startswith("_")
                if is_named and not isinstance(node, FUNCTIONS):
                    waiting.append((f"{name}.{child.name}", child))
    return found


@functools.cache
def measure() -> dict[str, tuple[int, str]]:
    """Every figure with the place that it was found at."""
    modules = read_modules()
    sizes: dict[str, int] = defaultdict(int)
    for name in modules:
        sizes[package_of(name)] += name != package_of(name)
    files = {path: len(lines) for path, lines in read_lines().items()}
    functions = [(length_of(f), f"{m}.{f.name}") for m, f in list_functions()]
    complexities = [(complexity_of(f), f"{m}.{f.name}") for m, f in list_functions()]
    classes = [
        (length_of(n), f"{m}.{n.name}")
        for m, t in modules.items()
        for n in ast.walk(t)
        if isinstance(n, ast.ClassDef)
    ]
    long_lines = [
        f"{path}:{k}"
        for path, lines in read_lines().items()
        for k, line in enumerate(lines, 1)
        if len(line) > MAX_LINE_LENGTH
    ]
    circles, named, bare = list_circles(), list_named_operators(), list_undocumented()
    levels = count_levels()
    return {
        "modules in a package": max((n, p) for p, n in sizes.items()),
        "lines in a file": max((n, p) for p, n in files.items()),
        "lines in a function": max(functions),
        "cyclomatic complexity": max(complexities),
        "lines in a class": max(classes),
        "levels of packages": max((n, p) for p, n in levels.items()),
        "circles of imports": (len(circles), ", ".join(circles[0]) if circles else ""),
        f"lines over {MAX_LINE_LENGTH} characters": (len(long_lines), next(iter(long_lines), "")),
        "operator names outside rules": (len(named), next(iter(named), "")),
        "public names without a docstring": (len(bare), next(iter(bare), "")),
    }


LIMITS = {
    "modules in a package": 14,
    "lines in a file": 400,
    "lines in a function": 60,
    "cyclomatic complexity": 20,
    "lines in a class": 250,
    "levels of packages": 10,
    "circles of imports": 0,
    f"lines over {MAX_LINE_LENGTH} characters": 0,
    "operator names outside rules": 0,
    "public names without a docstring": 0,
}


def main(arguments: list[str]) -> int:
    """Prints the figures; with `--all` every place that lies over its limit."""
    found = measure()
    for what, limit in LIMITS.items():
        number, where = found[what]
        print(f"{what:36} {number:5} (at most {limit}) {where}")
    if "--all" in arguments:
        print(
            *[
                f"{length_of(f):4} lines: {m}.{f.name}"
                for m, f in list_functions()
                if length_of(f) > 60
            ],
            sep="\n",
        )
        print(
            *[
                f"{complexity_of(f):4} ways: {m}.{f.name}"
                for m, f in list_functions()
                if complexity_of(f) > 20
            ],
            sep="\n",
        )
        print(
            *[f"{len(n):4} lines: {p}" for p, n in read_lines().items() if len(n) > 400], sep="\n"
        )
        for module, tree in read_modules().items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and length_of(node) > 250:
                    print(f"{length_of(node):4} lines: class {module}.{node.name}")
        print(*list_circles(), *list_named_operators(), *list_undocumented(), sep="\n")
    return int(any(found[what][0] > limit for what, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
