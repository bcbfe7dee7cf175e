"""`lady-onnx groups`: the groups of interchangeable units, and what pins the rest."""

from __future__ import annotations

import argparse

import lady_onnx as lady

from ..errors import UsageError
from ..graph.loading import Model, load_graph
from ..reporting import SCHEMA_VERSION, to_plain
from ..symmetry.drawing import draw_dot
from ..symmetry.explanation import Explanation
from .arguments import add_state_argument
from .console import print_details, print_headline, print_json
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "others", metavar="MODEL", nargs="*", help="further parts of one system, joined by --link"
    )
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="OUTPUT=INPUT",
        help="an output that is another part's input",
    )
    add_state_argument(parser)
    parser.add_argument(
        "--explain",
        metavar="INITIALIZER[:AXIS]",
        help="why an axis is pinned, or what it is tied to, node by node",
    )
    parser.add_argument(
        "--dot", action="store_true", help="draw the graph in the DOT language, one colour a group"
    )


def run_command(args: argparse.Namespace) -> int:
    """Print the groups of a model, an explanation of one weight, or a drawing."""
    if args.dot and (args.json or args.explain):
        raise UsageError("groups --dot: draws all groups; leave --json and --explain out")
    if args.explain:
        return _explain_weight(args)
    if args.dot:
        graph = load_graph(_join_parts(args), args.state)
        print(draw_dot(graph, lady.find_groups(graph)), end="")
        return 0
    model = load_graph(_join_parts(args), args.state)
    with show_phase("finding groups", args.verbosity):
        symmetry = lady.find_groups(model)
    if args.json:
        print_json(symmetry.to_dict())
        return 0
    print_headline(symmetry.headline())
    print_details(symmetry, args)
    return 0


def _join_parts(args: argparse.Namespace) -> Model:
    """Return the model, or the parts of one, linked."""
    links = [(a, b) for a, _, b in (text.partition("=") for text in args.link)]
    if any(not a or not b for a, b in links):
        what = "--link wants OUTPUT=INPUT, the names of an output and of an input"
        raise UsageError(f"{args.model}: {what}")
    if links and not args.others:
        what = "--link joins several files; name the others after this one"
        raise UsageError(f"{args.model}: {what}")
    return lady.link([args.model, *args.others], links) if args.others else str(args.model)


def _explain_weight(args: argparse.Namespace) -> int:
    """Print what holds the axes of one weight."""
    name, _, axis = args.explain.rpartition(":")
    graph = load_graph(_join_parts(args), args.state)
    # A colon and a number may also be the end of a weight's name.
    is_whole = args.explain in graph.tensors or not axis.isdecimal()
    place = (args.explain, None) if is_whole else (name, int(axis))
    found = lady.explain(graph, *place)
    if args.json:
        print_json({"schema_version": SCHEMA_VERSION, "axes": to_plain(found)})
        return 0
    for explanation in found:
        _print_explanation(explanation)
    return 0


def _print_explanation(explanation: Explanation) -> None:
    """Print what holds one axis."""
    free = "pinned" if explanation.ties else "no constraint"
    what = ", ".join(explanation.groups) if explanation.groups else free
    print(f"{explanation.initializer} axis {explanation.axis}: {what}")
    for tie in explanation.ties:
        tied = f"tied to {tie.initializer} axis {tie.axis}"
        print(f"  {f'pinned: {tie.reason}' if tie.reason else tied}")
        if tie.chain:
            print(f"    through {', '.join(tie.chain)}")
