"""The rules of operators from the command line.

`python -m lady_onnx.rules` prints the table of all operators. `python -m lady_onnx.rules new OP`
prints the beginning of a rule and of its test case from the operator's schema, and
`new DOMAIN::OP` that of another domain's. With `--into FOLDER` the rule is written to a file there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import LadyError
from . import make_table
from .scaffold import write_scaffold


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, by default those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m lady_onnx.rules", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    new = commands.add_parser("new", help="the beginning of a rule and of its test case")
    new.add_argument("operator", metavar="[DOMAIN::]OP")
    new.add_argument("--into", metavar="FOLDER", type=Path, help="write the rule to a file there")
    args = parser.parse_args(argv)
    if args.command is None:
        print("# Operators and their rules\n\nNames as in `lady_onnx/rules/__init__.py`.\n")
        print(make_table())
        return 0
    domain, _, operator = args.operator.rpartition("::")
    try:
        module, rule, case = write_scaffold(operator, domain)
    except LadyError as error:
        print(f"lady-onnx: {error}", file=sys.stderr)
        return 2
    if args.into is None:
        print(rule)
    else:
        file = args.into / f"{module}.py"
        if file.exists():
            print(f"lady-onnx: {file}: exists already; choose another folder", file=sys.stderr)
            return 2
        file.write_text(rule)
        print(f"{file}: written; a case for the tests:\n")
    print(case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
