"""`lady-onnx attack`: a model with altered weights, one sub-command a kind of attack."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lady_onnx as lady

from ..errors import LadyError, UsageError
from ..graph.loading import load_graph
from ..graph.model import Graph
from ..reporting import count_things
from ..runtime.comparing.data import read_data
from .arguments import (
    CommandParser,
    add_common_arguments,
    add_output_argument,
    parse_finite,
    parse_magnitude,
    parse_natural,
    parse_positive,
    parse_share,
)
from .console import print_headline, print_json
from .files import claim_destination
from .progress import show_phase

FINETUNE = "finetune"


@dataclass(frozen=True)
class Kind:
    """A kind of attack on the command line.

    Attributes:
        text: what it does.
        option: the option that says how strong it is, in units of its own.
        parse: reads the option's value.
        unit: what the value means.
    """

    text: str
    option: str
    parse: Callable[[str], float]
    unit: str


KINDS = {
    "noise": Kind(
        "add Gaussian noise",
        "--level",
        parse_magnitude,
        "standard deviation of the noise, in units of each weight's own",
    ),
    "prune": Kind(
        "set the smallest values to zero", "--sparsity", parse_share, "fraction pruned, 0 to 1"
    ),
    "quantize": Kind(
        "round to a few levels, one scale a weight",
        "--bits",
        parse_positive,
        "bits of the levels, 2 to 16",
    ),
    "rescale": Kind(
        "multiply units by factors that cancel",
        "--spread",
        parse_magnitude,
        "standard deviation of the logarithms of the factors",
    ),
    "scale": Kind(
        "multiply one unit by a factor that does not cancel", "--factor", parse_finite, "the factor"
    ),
    FINETUNE: Kind(
        "train on, with PyTorch",
        "--epochs",
        parse_magnitude,
        "passes over the data, 0.1 for a tenth of them",
    ),
}
"""The kinds of attack by name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a kind."""
    kinds = parser.add_subparsers(
        dest="kind", required=True, metavar="KIND", parser_class=CommandParser
    )
    for name, kind in KINDS.items():
        own = kinds.add_parser(name, help=kind.text, description=kind.text)
        own.add_argument("model", metavar="MODEL")
        add_output_argument(own)
        strength = own.add_mutually_exclusive_group(required=True)
        metavar = kind.option.removeprefix("--").upper()
        strength.add_argument(
            kind.option, dest="strength", type=kind.parse, metavar=metavar, help=kind.unit
        )
        strength.add_argument(
            "--strength", type=parse_magnitude, help=f"the same as {kind.option}, for every kind"
        )
        own.add_argument("--seed", type=parse_natural, default=0, help="of what is random (0)")
        if name == FINETUNE:
            text = "arrays by the inputs' names, and labels"
            own.add_argument("--data", metavar="X.npz", help=text)
        else:
            text = "this weight only; may be repeated"
            own.add_argument("--weight", action="append", metavar="NAME", help=text)
        add_common_arguments(own, is_nested=True)


def run_command(args: argparse.Namespace) -> int:
    """Alter a model and write it."""
    model = load_graph(args.model)
    out = claim_destination(Path(args.output), model.files)
    strength = float(args.strength)
    with show_phase(f"attack {args.kind}", args.verbosity):
        if args.kind == FINETUNE:
            result = _finetune_model(model, args.data, strength, args.seed)
        else:
            result = lady.attack(model, args.kind, strength, weights=args.weight, seed=args.seed)
    result.save(out)
    if args.json:
        print_json(
            {"output": str(out), "kind": args.kind, "strength": strength, **result.to_dict()}
        )
    else:
        what = f"{args.kind} of strength {strength:g}"
        print_headline(f"{out}: {what} on {count_things(len(result.weights), 'weight')}")
    return 0


def _finetune_model(model: Graph, data: str | None, epochs: float, seed: int) -> lady.Attacked:
    """Train a model on; PyTorch is loaded only here."""
    if not data:
        raise UsageError("attack finetune: give --data X.npz, of all inputs and labels")
    try:
        pytorch = importlib.import_module("lady_onnx.converters.pytorch")
    except ImportError as error:
        what = "needs PyTorch; pip install 'lady-onnx[torch]'"
        raise LadyError(f"attack finetune: {what}") from error
    attacked: lady.Attacked = pytorch.finetune(model, read_data(data), epochs, seed=seed)
    return attacked
