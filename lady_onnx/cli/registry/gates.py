"""The jobs of `lady-onnx registry` without one of ours: gate, receiver of webhooks, claims."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import UsageError
from ...registry.policy import Policy, read_policy
from ..arguments import add_limit_arguments, add_threads_argument, parse_amount, parse_positive
from ..console import print_headline, print_report
from ..progress import show_phase

DEFAULT_ALIAS, DEFAULT_PORT = "verified", 8750


def declare_gate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the gate."""
    parser.add_argument("name", metavar="NAME", help="the registered model")
    parser.add_argument("version", metavar="VERSION")
    _declare_rules(parser)
    add_limit_arguments(parser)
    add_threads_argument(parser)


def declare_webhook(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the receiver."""
    _declare_rules(parser)
    parser.add_argument(
        "--secret-file", metavar="FILE", required=True, help="a file with the webhook's secret"
    )
    parser.add_argument(
        "--queue", metavar="FOLDER", required=True, help="where deliveries wait until they are done"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    parser.add_argument(
        "--port", type=parse_positive, default=DEFAULT_PORT, help=f"its port ({DEFAULT_PORT})"
    )
    parser.add_argument(
        "--job-timeout", type=parse_amount, metavar="SECONDS", help="end a job after that (never)"
    )


def _declare_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference",
        metavar="ADDRESS",
        required=True,
        help="what versions are compared with, such as models:/{name}@champion",
    )
    parser.add_argument("--policy", metavar="P.toml", help="what passes; see the docs")
    parser.add_argument(
        "--alias", default=DEFAULT_ALIAS, help=f"what a version gets that passes ({DEFAULT_ALIAS})"
    )


def load_policy(path: str | None) -> Policy:
    """Read a policy, the default one without a path."""
    return Policy() if path is None else read_policy(Path(path))


def run_gate(args: argparse.Namespace) -> int:
    """Let a version pass or not; return 0 where it passes, else 1."""
    from ...mlflow import gate

    policy = load_policy(args.policy)
    with show_phase("checking", args.verbosity):
        found = gate(
            args.name,
            args.version,
            reference=args.reference,
            policy=policy,
            alias=args.alias or None,
            threads=args.threads,
            timeout=args.timeout,
            memory=args.memory,
        )
    print_report(found, args)
    return 0 if found.passes else 1


def declare_claims(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the job that verifies claims."""
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", help="repositories, folders of them, or caches"
    )
    add_limit_arguments(parser)
    add_threads_argument(parser)


def run_claims(args: argparse.Namespace) -> int:
    """Verify what model cards claim; return 1 where a claim is contradicted."""
    from ...registry.claims import CONTRADICTED, verify_claims

    with show_phase("comparing", args.verbosity):
        found = verify_claims(
            [Path(f) for f in args.folders],
            threads=args.threads,
            timeout=args.timeout,
            memory=args.memory,
        )
    print_report(found, args)
    return 1 if found.count(CONTRADICTED) else 0


def run_webhook(args: argparse.Namespace) -> int:
    """Receive deliveries until the process is told to end."""
    from ...mlflow.queue import JobQueue
    from ...mlflow.webhook import (
        Receiver,
        Worker,
        check_installation,
        list_command,
        listen,
        read_secret,
        serve,
    )

    if args.port >= 1 << 16:
        raise UsageError(f"registry serve-webhook --port {args.port}: a port is below 65536")
    # a policy that cannot be read is told now, and not at the first delivery
    load_policy(args.policy)
    check_installation()
    queue = JobQueue(Path(args.queue))
    receiver = Receiver(read_secret(Path(args.secret_file)), queue)
    options = ["--reference", args.reference, "--alias", args.alias]
    options += ["--policy", args.policy] if args.policy else []
    worker = Worker(queue, list_command(options), args.job_timeout)
    with listen(args.host, args.port) as where:
        print_headline(f"listening at http://{args.host}:{args.port}, queue {args.queue}")
        serve(receiver, worker, where)
    return 0
