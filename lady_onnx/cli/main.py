"""The command line: parses, calls once, prints. Exit codes: 0 done or yes, 1 no, 2 unusable call or input."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lady_onnx as lady

from ..diagnosis.alterations import describe_alterations
from ..diagnosis.findings import REPLACEABLE, TAMPERING
from ..graph.files import open_atomically
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..matching.alignment import Progress
from ..matching.assignment import ASSIGNMENTS
from ..pipeline.attacks import ATTACKS
from ..pipeline.demonstration import run_demo
from ..pipeline.permuting import Model, list_slots_json
from ..pipeline.resynchronization import EVIDENCE, VERIFY
from ..pipeline.verdicts import ACCEPTED, VERDICTS
from ..runtime.sessions import PROVIDERS, read_data
from ..symmetry.explanation import draw_dot


def _clean(value: Any) -> Any:
    """JSON has no infinity: it becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(_clean(value), allow_nan=False))


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [list(header), *([str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Progress]:
    """A bar on standard error, silent when that is not a terminal."""
    from tqdm import tqdm

    with tqdm(desc=text, unit="group", disable=None, leave=False, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _output(path: Path, taken: set[Path]) -> Path:
    """Checks where a result goes before any work is done; `taken` are the files of the inputs, and other results."""
    try:
        places = {path.resolve(), path.with_name(f"{path.name}.data").resolve()}
    except ValueError as error:
        raise lady.LadyError(f"{path}: {error}; choose another name") from error
    if places & taken:
        raise lady.LadyError(
            f"{path}: would overwrite an input or another result; choose another name"
        )
    taken |= places
    folder = path.parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise lady.LadyError(
            f"{path}: cannot write there: '{folder}' {what}; choose another folder"
        )
    if path.is_dir():
        raise lady.LadyError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise lady.LadyError(f"{path}: cannot write there: no permission; choose another folder")
    return path


def _whole(args: argparse.Namespace) -> Model:
    """The model, or the parts of one, linked."""
    files = [args.model, *args.others]
    links = [(a, b) for a, _, b in (text.partition("=") for text in args.link)]
    if any(not a or not b for a, b in links):
        raise lady.LadyError(
            f"{args.model}: --link wants OUTPUT=INPUT, the names of an output and of an input"
        )
    if links and not args.others:
        raise lady.LadyError(
            f"{args.model}: --link joins several files; name the others after this one"
        )
    return lady.link(files, links) if args.others else args.model


def _explain(args: argparse.Namespace) -> int:
    name, _, axis = args.explain.rpartition(":")
    graph = load_graph(_whole(args))
    whole = args.explain in graph.tensors or not axis.isdecimal()
    found = lady.explain(graph, args.explain if whole else name, None if whole else int(axis))
    if args.json:
        _print_json(
            {
                "axes": [
                    {
                        "initializer": e.initializer,
                        "axis": e.axis,
                        "groups": list(e.groups),
                        "ties": [
                            {
                                "initializer": t.initializer,
                                "axis": t.axis,
                                "reason": t.reason,
                                "chain": list(t.chain),
                            }
                            for t in e.ties
                        ],
                    }
                    for e in found
                ]
            }
        )
        return 0
    for e in found:
        print(
            f"{e.initializer} axis {e.axis}: {', '.join(e.groups) if e.groups else 'pinned' if e.ties else 'no constraint'}"
        )
        for t in e.ties:
            print(
                f"  {f'pinned: {t.reason}' if t.reason else f'tied to {t.initializer} axis {t.axis}'}"
            )
            if t.chain:
                print(f"    through {', '.join(t.chain)}")
    return 0


def _groups(args: argparse.Namespace) -> int:
    if args.dot and (args.json or args.explain):
        raise lady.LadyError("groups --dot: draws all groups; leave --json and --explain out")
    if args.explain:
        return _explain(args)
    if args.dot:
        graph = load_graph(_whole(args))
        print(draw_dot(graph, lady.find_groups(graph)), end="")
        return 0
    symmetry = lady.find_groups(_whole(args))
    if args.json:
        _print_json(
            {
                "groups": [
                    {
                        "id": g.id,
                        "kind": g.kind,
                        "size": g.size,
                        "parents": [{"group": group, "unit": unit} for group, unit in g.parents],
                        "slots": list_slots_json(g),
                    }
                    for g in symmetry.groups
                ],
                "symmetry_bits": symmetry.symmetry_bits,
                "pinned": [
                    {
                        "initializer": p.initializer,
                        "axis": p.axis,
                        "reason": p.reason,
                        "node": p.node,
                    }
                    for p in symmetry.pinned
                ],
                "unknown_operators": list(symmetry.unknown_operators),
            }
        )
        return 0
    alike: Counter[tuple[str, str, int, int]] = Counter()
    for g in symmetry.groups:
        name = g.id if not g.parents else f"  in each unit of {g.parents[0][0]}"
        alike[name, g.kind, g.size, len(g.slots)] += 1
    rows = [
        (name, kind, f"{n} x {size}" if n > 1 else str(size), str(slots))
        for (name, kind, size, slots), n in alike.items()
    ]
    _table(
        ("group", "kind", "size", "slots"),
        sorted(rows, key=lambda r: str(r[0]).strip().removeprefix("in each unit of ")),
    )
    print(f"\n{len(symmetry.groups)} groups, {symmetry.symmetry_bits:.1f} symmetry bits")
    for reason, count in Counter(p.reason for p in symmetry.pinned).most_common():
        print(f"pinned: {count} axes, {reason}")
    if symmetry.unknown_operators:
        print(
            f"unknown operators, whose operands are pinned: {', '.join(symmetry.unknown_operators)}"
        )
    return 0


def _permute(args: argparse.Namespace) -> int:
    model = load_graph(args.model)
    taken = model.files | ({Path(args.permutation).resolve()} if args.permutation else set())
    out = _output(Path(args.output), taken)
    record = _output(Path(args.save_permutation), taken) if args.save_permutation else None
    if args.inverse and not args.permutation:
        raise lady.LadyError("--inverse undoes a --permutation file; give one")
    if args.permutation and (args.group or args.seed is not None):
        raise lady.LadyError(
            "--permutation says what becomes of which group; leave --group and --seed out"
        )
    result = lady.permute(
        model,
        args.seed or 0,
        groups=args.group,
        permutations=args.permutation,
        inverse=args.inverse,
    )
    result.save(out)
    if record:
        result.save_permutation(record)
    moved = sum(int((p != range(len(p))).sum()) for p in result.permutations.values())
    if args.json:
        summary = {
            "output": str(out),
            "groups": len(result.permutations),
            "units_moved": moved,
            "seed": result.seed,
        }
        _print_json({**summary, "permutation": str(record) if record else None})
    else:
        print(f"{out}: {moved} units moved in {len(result.permutations)} groups")
    return 0


def _attack(args: argparse.Namespace) -> int:
    model = load_graph(args.model)
    out = _output(Path(args.output), model.files)
    if args.kind == "finetune":
        result = _finetuned(model, args)
    elif args.data:
        raise lady.LadyError(f"attack {args.kind}: takes no --data")
    else:
        result = lady.attack(model, args.kind, args.strength, weights=args.weight, seed=args.seed)
    result.save(out)
    if args.json:
        _print_json(
            {
                "output": str(out),
                "kind": args.kind,
                "strength": args.strength,
                "weights": list(result.weights),
            }
        )
    else:
        many = len(result.weights)
        print(
            f"{out}: {args.kind} of strength {args.strength:g} on {many} weight{'s' * (many != 1)}"
        )
    return 0


def _finetuned(model: Graph, args: argparse.Namespace) -> lady.Attacked:
    if not args.data or args.weight:
        raise lady.LadyError(
            "attack finetune: give --data X.npz, of all inputs and labels, and no --weight"
        )
    try:
        pytorch = importlib.import_module("lady_onnx.converters.pytorch")
    except ImportError as error:
        raise lady.LadyError(
            "attack finetune: needs PyTorch; pip install 'lady-onnx[torch]'"
        ) from error
    attacked: lady.Attacked = pytorch.finetune(
        model, read_data(args.data), args.strength, seed=args.seed
    )
    return attacked


def _verification(v: lady.Verification) -> dict[str, Any]:
    return {
        "equal": v.equal,
        "max_abs": v.max_abs,
        "max_rel": v.max_rel,
        "outputs": [
            {
                "name": o.name,
                "shape": list(o.shape),
                "max_abs": o.max_abs,
                "max_rel": o.max_rel,
                "equal": o.equal,
            }
            for o in v.outputs
        ],
        "samples": v.samples,
        "runs": [
            {"kind": r.kind, "shapes": {n: list(s) for n, s in r.shapes.items()}, "equal": r.equal}
            for r in v.runs
        ],
        "provider": v.provider,
        "metric": v.metric,
        "metrics": list(v.metrics) if v.metrics else None,
    }


SHOWN = 10
"""So many findings of a kind are printed; all are in the report."""
MEANING = {
    "rescaled": "units were multiplied in a way that leaves the function as it was; undone",
    "mixed": "units of a group were mixed in a way that leaves the function as it was; undone",
    "scaled": "units were multiplied in a way that changes the function",
    "replaced": "weights were given other values",
    "inert": "weights have other values where the function does not depend on them; undone",
    "shifted": "biases were changed, and others that take it back; undone",
    "obfuscated": "units were inserted that the function does not need",
    "inserted": "units were inserted that the function needs",
    "removed": "units were removed",
    "partly trained": "some weights moved as training moves them, and the rest of the tensor stayed",
}
"""What findings say."""


def _findings(r: lady.Resync) -> list[dict[str, Any]]:
    return [
        {
            "kind": f.kind,
            "group": f.group,
            "unit": f.unit,
            "slot": f.slot,
            "factor": f.factor,
            "size": f.size,
        }
        for f in r.integrity
    ]


def _judged(r: lady.Resync) -> dict[str, Any]:
    """What `resync` and `check` say alike."""
    return {
        "verdict": r.verdict,
        "reason": r.judged.reason,
        "equality": r.judged.equality,
        "recognised": r.recognised,
        "differences": list(r.apart),
        "psi_estimate": r.psi_estimate,
        "alterations": _alterations(r),
    }


def _alterations(r: lady.Resync) -> dict[str, Any]:
    return {
        name: [{"kind": a.kind, **a.parameters} for a in done]
        for name, done in r.alterations.items()
    }


def _resync_json(r: lady.Resync) -> dict[str, Any]:
    sizes = {g.id: g.size for g in r.symmetry.groups}
    return {
        **_judged(r),
        "similarity": r.similarity,
        "groups": [
            {
                "id": m.group,
                "size": sizes[m.group],
                "moved": m.moved,
                "similarity": float(m.similarity.mean()),
                "margin": float(m.margin.min(initial=math.inf)),
                "exact": int(np.isinf(m.margin).sum()),
                "unmatched": [
                    f.unit for f in r.integrity if f.kind == "removed" and f.group == m.group
                ],
            }
            for m in r.matches
        ],
        "max_weight_difference": r.max_weight_difference,
        "outputs_preserved": r.outputs_preserved,
        "verified_by": r.verified_by,
        "verification": _verification(r.verification) if r.verification else None,
        "integrity": _findings(r),
        "interchangeable": {
            name: [list(s) for s in sets] for name, sets in r.interchangeable.items()
        },
        "repaired": r.repaired,
        "stripped": r.stripped,
        "seconds": r.seconds,
    }


def _resync(args: argparse.Namespace) -> int:
    suspect = Path(args.suspect)
    default = suspect.with_name(f"{suspect.stem}.resynced.onnx")
    models = load_graph(args.reference), load_graph(args.suspect)
    taken = models[0].files | models[1].files
    out = _output(Path(args.output) if args.output else default, taken)
    if not args.output and out.exists() and not args.force:
        raise lady.LadyError(f"{out}: exists already; give -o, or --force to replace it")
    report = _output(Path(args.report), taken) if args.report else None
    record = _output(Path(args.save_permutation), taken) if args.save_permutation else None
    with _progress("matching") as progress:
        result = lady.resync(
            *models,
            verify=args.verify,
            provider=args.provider,
            repair=args.repair,
            strip=args.strip,
            evidence=args.evidence,
            assignment=args.assignment,
            progress=progress,
        )
    result.save(out)
    summary = {"output": str(out), **_resync_json(result)}
    if report:
        with open_atomically(report) as file:
            file.write(json.dumps(_clean(summary), allow_nan=False, indent=1).encode())
    if record:
        result.save_permutation(record)
    if args.json:
        _print_json(summary)
    else:
        rows = [
            (
                m.group,
                m.permutation.size,
                m.moved,
                f"{m.similarity.mean():.4f}",
                f"{m.margin.min():.4f}",
            )
            for m in result.matches
            if not result.symmetry.group(m.group).parents
        ]
        _table(("group", "size", "moved", "similarity", "margin"), rows)
        inner = [m for m in result.matches if result.symmetry.group(m.group).parents]
        if inner:
            print(
                f"and {len(inner)} groups inside their units, {sum(m.moved for m in inner)} units moved"
            )
        if result.alterations:
            print(f"besides: {describe_alterations(result.alterations)}")
        for kind, meaning in MEANING.items():
            found = [f for f in result.integrity if f.kind == kind]
            if found:
                known = [
                    (f.group, f.unit, f.slot, f.factor and f"{f.factor:.4g}") for f in found[:SHOWN]
                ]
                lines = [["" if cell is None else cell for cell in row] for row in known]
                print(
                    f"\n{kind}: {meaning}{' (repaired)' if result.repaired and kind in REPLACEABLE else ''}"
                )
                _table(("group", "unit", "weight", "factor"), lines)
                if len(found) > SHOWN:
                    print(f"and {len(found) - SHOWN} more")
        alike = [s for sets in result.interchangeable.values() for s in sets]
        if alike:
            print(
                f"{sum(map(len, alike))} units, in {len(alike)} sets, compute the same, or nothing: any order is theirs"
            )
        print(f"\n{_outcome(out, result)}")
        print(f"{result.verdict}: {result.judged.reason}")
    odd = any(f.kind in TAMPERING for f in result.integrity)
    return 1 if result.outputs_preserved is False or odd or result.verdict == "unrelated" else 0


def _outcome(out: Path, r: lady.Resync) -> str:
    """What became of the suspect, in one line."""
    preserved = {
        True: "computes what the suspect did",
        False: "does NOT compute what the suspect did",
        None: "not compared",
    }
    verified = (
        f"{preserved[r.outputs_preserved]}{f' (by {r.verified_by})' if r.verified_by else ''}"
    )
    if r.verdict == "unrelated":
        return f"{out}: not a copy; {r.moved} units were moved to the likeliest places; {verified}, {r.seconds:.1f} s"
    return (
        f"{out}: {r.moved} units were moved and are back; psi {r.psi_estimate:.2f} % (estimate), "
        f"largest weight difference {r.max_weight_difference:.4g}; {verified}, {r.seconds:.1f} s"
    )


def _check(args: argparse.Namespace) -> int:
    accepted = _policy(args.accept)
    with _progress("matching") as progress:
        found = lady.check(args.reference, args.suspect, progress=progress)
    r = found.resync
    passes = found.verdict in accepted and found.recognised >= args.min_recognised
    if args.json:
        said = (
            _judged(r)
            if r
            else {"equality": None, "recognised": 0.0, "psi_estimate": None, "alterations": {}}
        )
        _print_json(
            {
                **said,
                "verdict": found.verdict,
                "reason": found.reason,
                "accepted": passes,
                "moved": r.moved if r else None,
                "max_weight_difference": r.max_weight_difference if r else None,
                "integrity": _findings(r) if r else [],
            }
        )
    else:
        few = found.verdict in accepted and not passes
        more = (
            f"; {100 * found.recognised:.1f} % of the units are recognised, too few" if few else ""
        )
        print(f"{found.verdict}: {found.reason}{more}")
    return 0 if passes else 1


def _policy(text: str | None) -> Sequence[str]:
    """The verdicts that a gate lets pass; an identical file passes wherever a permuted one does."""
    if text is None:
        return ACCEPTED
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in VERDICTS:
            raise lady.LadyError(
                f"check --accept {text}: '{name}' is none of {', '.join(VERDICTS)}"
            )
    return ["identical", *names]


def _verify(args: argparse.Namespace) -> int:
    found = lady.verify(
        args.a,
        args.b,
        samples=args.samples,
        seed=args.seed,
        data=args.data,
        metric=args.metric,
        provider=args.provider,
        tolerance=args.tolerance,
    )
    if args.json:
        _print_json(_verification(found))
    else:
        rows = [
            (o.name, list(o.shape), f"{o.max_abs:.3g}", f"{o.max_rel:.3g}", o.equal)
            for o in found.outputs
        ]
        _table(("output", "shape", "max abs", "max rel", "equal"), rows)
        if found.metrics:
            print(f"{found.metric}: {found.metrics[0]:.4f} and {found.metrics[1]:.4f}")
        print("equal" if found.equal else "NOT equal")
    return 0 if found.equal else 1


def _demo(args: argparse.Namespace) -> int:
    found = run_demo(Path(args.folder))
    if args.json:
        _print_json(found)
        return 0
    rows = [
        (m["model"], m["file"], f"{100 * m['accuracy']:.1f} %", f"{m['correlation']:.3f}")
        for m in found["models"]
    ]
    _table(("model", "file", "accuracy", "correlation with the reference's weights"), rows)
    print(
        f"\n{found['units_moved']} units were moved, {found['units_restored']} of {found['units']} are back in place"
    )
    print(f"picture: {found['picture']}")
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _number(text: str) -> float:
    value = float(text)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    value = _number(text)
    if value > 1:
        raise ValueError(text)
    return value


_share.__name__ = "number from 0 to 1"
_positive.__name__ = "positive integer"
_natural.__name__ = "integer of zero or more"
_number.__name__ = "number of zero or more"


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(prog="lady-onnx", description=(lady.__doc__ or "").split("\n")[0])
    top.add_argument("--version", action="version", version=f"lady-onnx {lady.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, call: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text)
        p.add_argument("--json", action="store_true", help="one JSON object on standard output")
        p.set_defaults(call=call)
        return p

    p = command("groups", _groups, "find the groups of interchangeable units of a model")
    p.add_argument("model", metavar="MODEL")
    p.add_argument(
        "others", metavar="MODEL", nargs="*", help="further parts of one system, joined by --link"
    )
    p.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="OUTPUT=INPUT",
        help="an output that is another part's input",
    )
    p.add_argument(
        "--explain",
        metavar="INITIALIZER[:AXIS]",
        help="why an axis is pinned, or what it is tied to, node by node",
    )
    p.add_argument(
        "--dot", action="store_true", help="draw the graph in the DOT language, one colour a group"
    )

    p = command(
        "permute", _permute, "apply a random, or a given, element of a model's permutation symmetry"
    )
    p.add_argument("model", metavar="MODEL")
    p.add_argument("-o", "--output", metavar="OUT", required=True)
    p.add_argument("--seed", type=_natural, help="of the random permutations (0)")
    p.add_argument(
        "--group", action="append", metavar="ID", help="permute this group only; may be repeated"
    )
    p.add_argument("--permutation", metavar="P.json", help="apply this instead of a random one")
    p.add_argument("--inverse", action="store_true", help="undo the given permutation")
    p.add_argument("--save-permutation", metavar="P.json", help="write what was applied")

    p = command(
        "attack",
        _attack,
        "alter a model's weights: noise, pruning, quantisation, factors, training",
    )
    p.add_argument("kind", choices=(*ATTACKS, "finetune"))
    p.add_argument("model", metavar="MODEL")
    p.add_argument("-o", "--output", metavar="OUT", required=True)
    how = (
        "deviation of the noise in units of each weight's own, fraction pruned (0 to 1), bits (2 to 16), "
        "deviation of the logarithms of factors that cancel, one factor, or passes over the data (0.1 for a tenth)"
    )
    p.add_argument("--strength", type=_number, required=True, help=how)
    p.add_argument(
        "--weight", action="append", metavar="NAME", help="this weight only; may be repeated"
    )
    p.add_argument(
        "--seed",
        type=_natural,
        default=0,
        help="of the noise, the factors, which unit, and the samples' order (0)",
    )
    p.add_argument(
        "--data", metavar="X.npz", help="for finetune: arrays by the inputs' names, and labels"
    )

    p = command(
        "resync",
        _resync,
        "find where every unit of the reference went in the suspect, and put it back",
    )
    p.add_argument("reference", metavar="REFERENCE")
    p.add_argument("suspect", metavar="SUSPECT")
    p.add_argument(
        "--repair", action="store_true", help="give what was tampered with the reference's values"
    )
    p.add_argument(
        "--strip",
        action="store_true",
        help="take out inserted units that the function does not need",
    )
    p.add_argument(
        "-o", "--output", metavar="OUT", help="SUSPECT's name with .resynced.onnx by default"
    )
    p.add_argument("--force", action="store_true", help="replace the default output")
    p.add_argument("--report", metavar="R.json", help="write the report")
    p.add_argument(
        "--save-permutation", metavar="P.json", help="write what was applied to the suspect"
    )
    p.add_argument(
        "--verify", choices=VERIFY, default="auto", help="how outputs are compared (auto)"
    )
    p.add_argument("--provider", choices=PROVIDERS, default="auto")
    p.add_argument(
        "--evidence",
        choices=EVIDENCE,
        default="all",
        help="all weights of a unit, or the paper's: incoming (all)",
    )
    p.add_argument(
        "--assignment",
        choices=tuple(ASSIGNMENTS),
        default="optimal",
        help="with argmax, the paper's (optimal)",
    )

    p = command(
        "check",
        _check,
        "what is the suspect to the reference: identical, permuted, rescaled, altered, tampered, unrelated",
    )
    p.add_argument("reference", metavar="REFERENCE")
    p.add_argument("suspect", metavar="SUSPECT")
    default = ",".join(ACCEPTED)
    p.add_argument(
        "--accept",
        metavar="VERDICTS",
        help=f"verdicts with exit code 0, separated by commas ({default})",
    )
    least = "the least share of units that must be recognised for exit code 0, 0 to 1 (0)"
    p.add_argument("--min-recognised", type=_share, default=0.0, metavar="SHARE", help=least)

    p = command("verify", _verify, "do two models give the same outputs under onnxruntime?")
    p.add_argument("a", metavar="A")
    p.add_argument("b", metavar="B")
    p.add_argument("--samples", type=_positive, default=4, help="random inputs (4)")
    p.add_argument("--seed", type=_natural, default=0)
    p.add_argument("--data", metavar="X.npz", help="inputs by name, and `labels`")
    p.add_argument(
        "--metric", metavar="NAME", help="accuracy or mse, of the first output against `labels`"
    )
    p.add_argument("--provider", choices=PROVIDERS, default="auto")
    p.add_argument(
        "--tolerance", type=_number, help="largest difference, relative to the largest output"
    )

    p = command(
        "demo", _demo, "a first minute: shuffle a small classifier of digits, and put it back"
    )
    p.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="demo", help="where the files go (demo)"
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return int(args.call(args))
    except lady.LadyError as error:
        print(f"lady-onnx: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        print(
            f"lady-onnx: {error.filename or ''}: {error.strerror or error}; check the path and the disk",
            file=sys.stderr,
        )
    except MemoryError:
        print("lady-onnx: out of memory; free some, or use a larger machine", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2
