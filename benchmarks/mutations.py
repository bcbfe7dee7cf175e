"""Mutations as the measure: of mutants whose outputs differ `check` must accept none.

    python benchmarks/mutations.py [--count 20000] [--seed 1] [--workers 2] [--keep FOLDER]
                                   [--only INDEX ...]

Draws a field of an ONNX message, a small model that holds one, and changes it there. Half of the
mutants and more are disguised by honest rewrites. onnxruntime runs both on inputs made to tell. A
mutant that computes something else and is accepted is a wrong yes; any exception but LadyError is a
crash. Both are printed with the index that `--only` runs again. Mutants that compute the same and
are refused are counted, and no failure. One seed gives the same mutants again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.helpers import bases, messages, oracle, trials, workers

ENOUGH = 20
"""So often every kind of field must have been changed."""
STATES = (oracle.INVALID, oracle.EQUAL, oracle.UNDECIDED, oracle.DIFFERENT)


def table(found: Sequence[trials.Trial]) -> str:
    """By kind of field what became of its mutants."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for t in found:
        row = rows[t.kind]
        row["drawn"] += bool(t.base)
        row[t.state] += 1
        row["accepted"] += t.accepted
        row["wrong"] += t.wrong
        row["refused same"] += t.state == oracle.EQUAL and not t.accepted
    columns = ("drawn", *STATES, "accepted", "refused same", "wrong")
    lines = [f"{'':44}" + "".join(f"{c:>14}" for c in columns)]
    lines += [
        f"{kind:44}" + "".join(f"{row[c]:14}" for c in columns)
        for kind, row in sorted(rows.items())
    ]
    total: Counter[str] = sum(rows.values(), Counter())
    return "\n".join([*lines, f"{'all':44}" + "".join(f"{total[c]:14}" for c in columns)])


def summary(found: Sequence[trials.Trial]) -> str:
    """Wrong yeses, crashes, and kinds of fields that were changed too seldom."""
    drawn = Counter(t.kind for t in found if t.base)
    short = [f"{k} ({drawn[k]})" for k in map(".".join, messages.KINDS) if drawn[k] < ENOUGH]
    wrong, crashed = (
        [t for t in found if t.wrong],
        [t for t in found if t.verdict == trials.CRASHED],
    )
    loose = [t for t in found if t.accepted and t.state == oracle.INVALID]
    lines = [f"WRONG YES {t}" for t in wrong] + [f"CRASH {t}" for t in crashed]
    lines += [f"lost {t}" for t in found if t.verdict == trials.LOST]
    lines.append(f"kinds of fields changed fewer than {ENOUGH} times: {', '.join(short) or 'none'}")
    lines.append(f"accepted although onnxruntime does not load it: {len(loose)}")
    differ = sum(t.state == oracle.DIFFERENT for t in found)
    lines.append(
        f"{len(found)} trials, {differ} mutants whose outputs differ: "
        f"{len(wrong)} wrong yeses, {len(crashed)} crashes"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the files of wrong yeses and crashes"
    )
    parser.add_argument(
        "--only", type=int, nargs="+", help="the indices of trials to run again, here"
    )
    parser.add_argument("--log", type=Path, help="a file for all trials, one JSON object a line")
    given = parser.parse_args()
    start = time.monotonic()
    if given.only:
        families = trials.by_family(bases.pool())
        found = [trials.run_trial(families, given.seed, k, given.keep) for k in given.only]
        print(*found, sep="\n")
    else:
        found = []
        for t in workers.run_trials(range(given.count), given.seed, given.workers, given.keep):
            found.append(t)
            if t.wrong or t.verdict == trials.CRASHED:
                print(f"{'WRONG YES' if t.wrong else 'CRASH'} {t}", file=sys.stderr, flush=True)
        found.sort(key=lambda t: t.index)
        print(table(found))
    if given.log:
        given.log.write_text("".join(json.dumps(dataclasses.asdict(t)) + "\n" for t in found))
    print(summary(found))
    print(f"seed {given.seed}, {time.monotonic() - start:.0f} s")
    return int(any(t.wrong or t.verdict == trials.CRASHED for t in found))


if __name__ == "__main__":
    sys.exit(main())
