"""A page that says what was found: one HTML file without scripts, to read, print and file away."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnosis.alterations import describe_alterations
from ..diagnosis.findings import REMOVED, TAMPERING
from ..graph.model import Graph, map_weights
from ..groups.model import Group
from ..matching.evidence.scores import compute_similarities
from ..picture import draw_matrices
from ..pipeline.checking import Check
from ..pipeline.result import Resync
from ..pipeline.verdicts import ACCEPTED, UNRELATED
from ..pipeline.wording import MEANING_OF_FINDING
from ..reporting import count_things, format_share
from .conclusions import MAX_LISTED, MAX_NAME, MAX_REASON, cut, escape, say_conclusions
from .record import Record

MAX_CELLS = 1000
"""So many weights are drawn; of larger models several share a cell, which shows the worst."""
CELLS_IN_ROW, CELL, GAP = 25, 20, 3
"""Cells in a row of the drawing, and their side and distance in pixels."""
MAX_PICTURES, MAX_PICTURED_UNITS = 3, 20
"""So many groups are drawn, and so many units of each."""
MAX_TITLES = 300
"""If more cells are drawn, they have no names."""
MAX_FILES = 50
"""So many files are listed."""
STATES = {
    "tampered": "single units or weights were changed",
    "altered": "changed as a whole",
    "rescaled": "changed in a way that cancels",
    "moved": "units in another order",
    "same": "as in the reference",
}
"""What may have been done to a weight, the worst first."""
STATE_OF_GROUP = {
    REMOVED: "tampered",
    "inserted": "tampered",
    "obfuscated": "rescaled",
    "rescaled": "rescaled",
    "mixed": "rescaled",
}
"""By kind of a finding the state of all weights of its group."""
COLOURS = {
    "tampered": ("#c62828", "#ff6b6b"),
    "altered": ("#e08a00", "#ffb74d"),
    "rescaled": ("#7b1fa2", "#ce93d8"),
    "moved": ("#1565c0", "#64b5f6"),
    "same": ("#b8bec6", "#4b535d"),
}
"""The colours of these states, on a light and on a dark page."""
STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --faint: #5b6772; --line: #d5dae0; --page: #fff }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
td.text { overflow-wrap: anywhere; min-width: 6rem }
@media (max-width: 40rem) { table { display: block; overflow-x: auto; font-size: .8rem } }
code, .hash { font: .85rem ui-monospace, monospace; overflow-wrap: anywhere }
figure { margin: 1rem 0; break-inside: avoid }
svg { display: block; max-width: 100%; height: auto } .faint { color: var(--faint) }
.verdict { display: inline-block; padding: 0 .6rem; border-radius: .3rem; color: #fff }
.accepted { background: #2e7d32 } .doubtful { background: #b26a00 } .refused { background: #b71c1c }
.key span { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em }
"""
DARK = "--ink: #e6eaee; --faint: #9aa6b2; --line: #39424c; --page: #14191f"


def draw_page(
    found: Check | Resync,
    record: Record,
    reference: Graph,
    suspect: Graph,
    left_out: Sequence[str] = (),
) -> str:
    """Draw the page of a result.

    Args:
        found: the result.
        record: what it rests on.
        reference, suspect: the models.
        left_out: the tensors of checkpoints of which the result says nothing.

    Returns:
        The text of an HTML file.
    """
    result = found.resync if isinstance(found, Check) else found
    verdict, reason = found.headline().split(": ", 1)
    parts = [
        f'<h1><span class="verdict {_rate(verdict)}">{verdict}</span> '
        f"{escape(cut(reason, MAX_REASON))}</h1>",
        f'<p class="faint">{escape(suspect.name)} against {escape(reference.name)}</p>',
        *say_conclusions(verdict, found, result, left_out),
        "<h2>How sure</h2>",
        *_say_certainty(found, result),
    ]
    if result is not None:
        # nothing was done to a stranger, and of a part that is shared it is not known which weight
        # of the file is which
        if verdict != UNRELATED and result.common is None:
            parts += _draw_layers(result)
        parts += _list_changes(result) if verdict != UNRELATED else []
        parts += _draw_groups(result, reference, suspect)
    parts += _list_record(record)
    title = escape(f"{verdict}: {suspect.name}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_style()}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _style() -> str:
    """Return the style sheet, with both sets of colours."""
    light = " ".join(f".{n} {{ fill: {c}; background: {c} }}" for n, (c, _) in _list_fills())
    dark = " ".join(f".{n} {{ fill: {c}; background: {c} }}" for n, (_, c) in _list_fills())
    return (
        f"{STYLE}{light}\n@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} {dark}\n"
        "figure svg { filter: invert(.92) hue-rotate(180deg) } }\n"
        "@media print { body { max-width: none } h2 { break-after: avoid } }"
    )


def _list_fills() -> list[tuple[str, tuple[str, str]]]:
    return [(f"s-{name}", colours) for name, colours in COLOURS.items()]


def _rate(verdict: str) -> str:
    if verdict in ACCEPTED:
        return "accepted"
    return "doubtful" if verdict in ("derived", "altered") else "refused"


def _say_certainty(found: Check | Resync, result: Resync | None) -> list[str]:
    """Say what the verdict rests on, in figures."""
    lines = [f"{format_share(found.recognised)} of the units are recognised."]
    if result is not None:
        if result.common is None:
            psi = f"{result.psi_estimate:.2f} %"
            lines.append(f"About {psi} of the units are in their places once they are put back.")
        lines.append(
            f"The largest difference of a weight is then {result.max_weight_difference:.3g}."
        )
        outcome = {True: "are the same", False: "are NOT the same"}
        if result.outputs_preserved is not None:
            by = "onnxruntime ran both" if result.verified_by == "run" else "by proof"
            same = outcome[result.outputs_preserved]
            lines.append(f"The outputs of the suspect before and after putting back {same} ({by}).")
        if result.repaired:
            lines.append("Units were repaired after that, so that outputs differ from then on.")
        lines += [f"The programs part: {escape(cut(place))}." for place in result.apart[:3]]
    return [f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"]


def _find_states(result: Resync) -> dict[str, str]:
    """Find by weight the worst that was done to it."""
    moved = {m.group for m in result.matches if m.moved}
    found: dict[str, str] = {}

    def note(name: str, state: str) -> None:
        order = list(STATES)
        if order.index(state) < order.index(found.get(name, "same")):
            found[name] = state

    for name in result.weights:
        found[name] = "same"
    for group in result.symmetry.groups:
        for slot in group.slots:
            found.setdefault(slot.initializer, "same")
            if group.id in moved:
                note(slot.initializer, "moved")
    for name in result.alterations:
        found.setdefault(name, "same")
        note(name, "altered")
    groups = {g.id: g for g in result.symmetry.groups}
    for finding in result.integrity:
        if finding.kind in (*TAMPERING, REMOVED):
            found.setdefault(finding.slot, "same")
            note(finding.slot, "tampered")
        # what is done to a unit as a whole is done to every weight of its group
        whole = groups.get(finding.group or "")
        if finding.kind in STATE_OF_GROUP and whole is not None:
            for slot in whole.slots:
                note(slot.initializer, STATE_OF_GROUP[finding.kind])
    touched = {s.initializer for g in result.symmetry.groups for s in g.slots}
    return {n: s for n, s in found.items() if n in touched or s != "same"}


def _draw_layers(result: Resync) -> list[str]:
    """Draw one cell a weight, coloured by what was done to it."""
    states = list(_find_states(result).items())
    if not states:
        return []
    order, step = list(STATES), -(-len(states) // MAX_CELLS)
    cells = []
    for k in range(0, len(states), step):
        some = states[k : k + step]
        name, state = min(some, key=lambda s: order.index(s[1]))
        more = f" and {count_things(step - 1, 'weight')} after it" if len(some) > 1 else ""
        cells.append((f"{cut(name)}{more}: {STATES[state]}", state))
    side = CELL + GAP
    width = side * min(len(cells), CELLS_IN_ROW)
    height = side * -(-len(cells) // CELLS_IN_ROW)
    drawn = [
        f'<rect class="s-{state}" x="{k % CELLS_IN_ROW * side}" y="{k // CELLS_IN_ROW * side}" '
        f'width="{CELL}" height="{CELL}">{_title(text, len(cells))}</rect>'
        for k, (text, state) in enumerate(cells)
    ]
    counts = {s: sum(found == s for _, found in states) for s in STATES}
    key = "".join(
        f'<span class="s-{s}"></span>{count_things(counts[s], "weight")}: {text}'
        for s, text in STATES.items()
        if counts[s]
    )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    label = "the weights of the model, in the order of the file, coloured by what was done to each"
    return [
        "<h2>The weights, in the order of the file</h2>",
        f'<svg role="img" aria-label="{label}" {size}>{"".join(drawn)}</svg>',
        f'<p class="key">{key}</p>',
    ]


def _title(text: str, cells: int) -> str:
    return f"<title>{escape(text)}</title>" if cells <= MAX_TITLES else ""


def _list_changes(result: Resync) -> list[str]:
    """List what was done to weights, and to single units."""
    parts = []
    told = {f.slot for f in result.integrity if f.kind in (*TAMPERING, REMOVED)}
    # what single units are apart is no noise of the whole
    whole = {
        name: steps
        for name, steps in result.alterations.items()
        if name not in told or any(step.kind != "noise" for step in steps)
    }
    if whole:
        text = escape(describe_alterations(whole))
        parts += ["<h2>What was done to whole weights</h2>", f"<p>{text}.</p>"]
    findings = sorted(
        result.integrity, key=lambda f: (list(MEANING_OF_FINDING).index(f.kind), -f.size)
    )
    if findings:
        rows = [
            (
                f.kind,
                f.slot,
                "" if f.unit is None else str(f.unit),
                "" if f.factor is None else f"{f.factor:.4g}",
                f"{f.size:.3g}",
            )
            for f in findings[:MAX_LISTED]
        ]
        parts.append("<h2>What was done to single units and weights</h2>")
        kinds = dict.fromkeys(f.kind for f in findings)
        parts += [f"<p><b>{k}</b>: {escape(MEANING_OF_FINDING[k])}.</p>" for k in kinds]
        parts.append(_make_table(("kind", "weight", "unit", "factor", "size"), rows))
        if len(findings) > MAX_LISTED:
            parts.append(f"<p>and {len(findings) - MAX_LISTED} more</p>")
    return parts


def _draw_groups(result: Resync, reference: Graph, suspect: Graph) -> list[str]:
    """Draw the similarities of the units that are least sure, before and after."""
    outer = [m for m in result.matches if not result.symmetry.group(m.group).parents]
    worst = sorted(outer, key=lambda m: float(m.certainty.mean()) if m.certainty.size else 1.0)
    if not worst:
        return []
    rows = [
        (
            m.group,
            str(m.permutation.size),
            str(m.moved),
            f"{m.similarity.mean():.4f}",
            f"{m.certainty.mean():.2%}",
        )
        for m in worst[: 2 * MAX_PICTURES]
    ]
    heads = ("group", "units", "moved", "mean similarity", "sure")
    parts = ["<h2>Groups of units, the least sure first</h2>", _make_table(heads, rows)]
    for match in worst[:MAX_PICTURES]:
        group = result.symmetry.group(match.group)
        graphs = reference, suspect, result.graph
        if not all(_has_weights(g, group, reference) for g in graphs):
            # files that are written in other ways have other weights
            continue
        panels = []
        for title, graph in (("as it came", suspect), ("put back", result.graph)):
            whole = compute_similarities(group, map_weights(reference), map_weights(graph))
            panels.append((title, whole[:MAX_PICTURED_UNITS, :MAX_PICTURED_UNITS]))
        caption = f"the first units of {cut(group.id)}"
        parts.append(f"<figure>{draw_matrices(panels, caption, CELL // 2)}</figure>")
    return parts


def _has_weights(graph: Graph, group: Group, like: Graph) -> bool:
    names = [slot.initializer for slot in group.slots]
    return all(
        n in graph.tensors and n in like.tensors and graph.shape(n) == like.shape(n) for n in names
    )


def _list_record(record: Record) -> list[str]:
    """List what the result rests on."""
    rows = [
        (f.role, f.path, f"{f.bytes:,}", f'<span class="hash">{f.sha256}</span>')
        for f in record.files[:MAX_FILES]
    ]
    options = ", ".join(f"{n} = {_show(v)}" for n, v in record.options.items())
    return [
        "<h2>What this rests on</h2>",
        _make_table(("file", "path", "bytes", "SHA-256"), rows, is_safe=(3,)),
        f'<p class="faint">lady-onnx {escape(record.version)}, command '
        f"<code>{escape(record.command)}</code>, {escape(record.time)}. {escape(options)}</p>",
    ]


def _show(value: object) -> str:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return ", ".join(map(str, value)) if is_list and isinstance(value, Sequence) else str(value)


def _make_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], is_safe: Sequence[int] = ()
) -> str:
    """Make a table; cells are text, but for the columns that are safe."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="text">{cell if k in is_safe else escape(cut(cell, 4 * MAX_NAME))}</td>'
            if k in is_safe or not _is_number(cell)
            else f"<td>{cell}</td>"
            for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_number(text: str) -> bool:
    return not text.strip("0123456789.,+-e% ")
