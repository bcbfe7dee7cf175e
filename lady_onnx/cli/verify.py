"""`lady-onnx verify`: whether two models give the same outputs under onnxruntime."""

from __future__ import annotations

import argparse

import lady_onnx as lady

from ..runtime.providers import PROVIDERS
from .arguments import (
    add_custom_ops_argument,
    add_limit_arguments,
    add_state_argument,
    parse_magnitude,
    parse_natural,
    parse_positive,
)
from .console import print_report
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--samples", type=parse_positive, default=4, help="random inputs (4)")
    parser.add_argument("--seed", type=parse_natural, default=0, help="of the inputs (0)")
    parser.add_argument("--data", metavar="X.npz", help="inputs by name, and `labels`")
    parser.add_argument(
        "--metric", metavar="NAME", help="accuracy or mse, of the first output against `labels`"
    )
    parser.add_argument(
        "--provider", choices=PROVIDERS, default="auto", help="what runs them (auto)"
    )
    parser.add_argument(
        "--tolerance",
        type=parse_magnitude,
        help="largest difference, relative to the largest output",
    )
    add_limit_arguments(parser)
    add_custom_ops_argument(parser)
    add_state_argument(parser)


def run_command(args: argparse.Namespace) -> int:
    """Print how the outputs of two models differ; return 0 where they are equal, else 1."""
    with show_phase("running both models", args.verbosity):
        found = lady.verify(
            args.a,
            args.b,
            samples=args.samples,
            seed=args.seed,
            data=args.data,
            metric=args.metric,
            provider=args.provider,
            tolerance=args.tolerance,
            custom_ops=args.custom_ops,
            timeout=args.timeout,
            memory=args.memory,
            states=args.state,
        )
    print_report(found, args)
    return 0 if found.equal else 1
