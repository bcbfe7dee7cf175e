"""What model cards claim to be made of, and whether it is so.

Repositories of Hugging Face say in the head of their README.md which model they are made of:
`base_model`, and how, `base_model_relation`. Anybody may write anything there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LadyError, MissingFileError, UsageError, to_one_line
from ..pipeline.checking import check
from ..pipeline.verdicts import UNRELATED
from ..reporting import MAX_SHOWN_ENTRIES, Report, count_things, format_share, list_fields

CONFIRMED, CONTRADICTED, OPEN = "confirmed", "contradicted", "open"
CARD = "README.md"
CACHE_PREFIX = "models--"
"""How the folders of a cache begin that hold a repository: `models--ORG--NAME`."""


@dataclass(frozen=True)
class Repository:
    """A repository on the disk.

    Attributes:
        name: `ORG/NAME`, or the folder's name where it stands by itself.
        folder: the folder with its files, the newest snapshot in a cache.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class Claim:
    """What a repository says of itself.

    Attributes:
        repository: its name.
        base: the repository that it is said to be made of.
        relation: how, as it is written: `finetune`, `quantized`, `merge`, `adapter`; None where
            nothing is.
        answer: `confirmed` where it is a copy of that or shares a part with it, `contradicted`
            where it does not, and `open` where nobody can tell.
        reason: why.
        verdict: that of `check`, None where nothing was compared.
        recognised: the share of the base's units that are in it, None where nothing was compared.
    """

    repository: str
    base: str
    relation: str | None
    answer: str
    reason: str
    verdict: str | None = None
    recognised: float | None = None

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return list_fields(self)


@dataclass(frozen=True, repr=False)
class Claims(Report):
    """The claims of some repositories.

    Attributes:
        claims: the claims, those that are contradicted first.
        silent: the repositories that claim nothing.
        unread: by repository why its card cannot be read.
    """

    claims: tuple[Claim, ...]
    silent: tuple[str, ...]
    unread: dict[str, str]

    def count(self, answer: str) -> int:
        """Count the claims with an answer."""
        return sum(c.answer == answer for c in self.claims)

    def headline(self) -> str:
        """Say how many claims are true."""
        counts = ", ".join(f"{self.count(a)} {a}" for a in (CONFIRMED, CONTRADICTED, OPEN))
        said = f"{len(self.silent)} without a claim" if self.silent else "none without a claim"
        return f"{count_things(len(self.claims), 'claim')}: {counts}; {said}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the claims."""
        lines = []
        for claim in self.claims[:limit]:
            how = f" ({claim.relation})" if claim.relation else ""
            said = f"{claim.answer}: {claim.repository} is made of {claim.base}{how}"
            share = (
                ""
                if claim.recognised is None
                else f", {format_share(claim.recognised)} of its units are recognised"
            )
            lines.append(f"{said}: {claim.reason}{share}")
        return [*lines, *(f"not read: {why}" for why in list(self.unread.values())[:limit])]


def verify_claims(roots: Sequence[Path], **options: Any) -> Claims:
    """Compare repositories with the models that they claim to be made of.

    Args:
        roots: repositories; folders of repositories, as `ORG/NAME` or `NAME`; or caches. Bases are
            looked for in all of them.
        options: as for `check`.

    Raises:
        UsageError: huggingface_hub is not installed.
        MissingFileError: there is no such folder, or no repository in any.
    """
    try:
        import huggingface_hub
    except ImportError:
        what = "claims need the extra `huggingface`: pip install 'lady-onnx[huggingface]'"
        raise UsageError(what) from None
    # it warns of cards without a head, which claim nothing
    huggingface_hub.logging.set_verbosity_error()
    found = {r.name: r for root in roots for r in list_repositories(root)}
    if not found:
        what = "no folder with a README.md in it; give repositories, or a cache"
        raise MissingFileError(f"{', '.join(map(str, roots))}: {what}")
    claims: list[Claim] = []
    silent: list[str] = []
    unread: dict[str, str] = {}
    for name in sorted(found):
        try:
            own = list(_read_claims(found[name]))
        except LadyError as error:
            unread[name] = to_one_line(error)
            continue
        if not own:
            silent.append(name)
        claims += [_verify(found[name], base, how, found, options) for base, how in own]
    order = (CONTRADICTED, OPEN, CONFIRMED)
    claims.sort(key=lambda c: (order.index(c.answer), c.repository, c.base))
    return Claims(tuple(claims), tuple(silent), unread)


def list_repositories(root: Path) -> Iterator[Repository]:
    """Yield the repositories in a folder: itself, those in it, or those of a cache.

    Raises:
        MissingFileError: there is no such folder.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: no such folder; give a repository, or a cache")
    if (root / CARD).is_file():
        yield Repository("/".join(root.resolve().parts[-2:]), root)
        return
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name.startswith(CACHE_PREFIX):
            newest = _find_snapshot(folder)
            if newest is not None:
                yield Repository(folder.name[len(CACHE_PREFIX) :].replace("--", "/", 1), newest)
        elif (folder / CARD).is_file():
            yield Repository(folder.name, folder)
        else:
            inside = sorted(p for p in folder.iterdir() if (p / CARD).is_file())
            yield from (Repository(f"{folder.name}/{p.name}", p) for p in inside)


def _find_snapshot(folder: Path) -> Path | None:
    """Find the snapshot of a cached repository that `main` names, else the newest one."""
    snapshots = folder / "snapshots"
    main = folder / "refs" / "main"
    if main.is_file():
        named = snapshots / main.read_text(encoding="utf-8", errors="replace").strip()
        if named.is_dir() and named.parent == snapshots:
            return named
    every = [p for p in snapshots.glob("*") if p.is_dir()]
    return max(every, key=lambda p: p.stat().st_mtime, default=None)


def _read_claims(repository: Repository) -> Iterator[tuple[str, str | None]]:
    """Yield the bases that a card names, and how the repository was made of them.

    Raises:
        LadyError: the card cannot be read.
    """
    from huggingface_hub import ModelCard

    try:
        card = ModelCard.load(repository.folder / CARD, ignore_metadata_errors=True)
        said = card.data.to_dict()
    except Exception as error:  # noqa: BLE001
        # YAML, encodings and the hub's own checks each have errors of their own
        what = f"{repository.folder / CARD}: cannot be read ({to_one_line(error)})"
        raise LadyError(f"{what}; mend its head") from None
    bases, how = said.get("base_model") or [], said.get("base_model_relation") or None
    every = bases if isinstance(bases, list) else [bases]
    if not all(isinstance(text, str) for text in (*every, how or "")):
        # what else YAML has may be as large as a few aliases make it
        what = "base_model is no name, and no list of names"
        raise LadyError(f"{repository.folder / CARD}: {what}; mend its head")
    for base in every:
        yield base, how


def _verify(
    repository: Repository,
    base: str,
    how: str | None,
    found: dict[str, Repository],
    options: dict[str, Any],
) -> Claim:
    if base not in found:
        return Claim(repository.name, base, how, OPEN, f"{base} is not here")
    if base == repository.name:
        return Claim(repository.name, base, how, OPEN, "it is named as its own base")
    try:
        models = [_find_model(r) for r in (found[base], repository)]
        judged = check(models[0], models[1], **options)
    except LadyError as error:
        return Claim(repository.name, base, how, OPEN, to_one_line(error))
    answer = CONTRADICTED if judged.verdict == UNRELATED else CONFIRMED
    reason = f"{judged.verdict}, {judged.reason}"
    return Claim(repository.name, base, how, answer, reason, judged.verdict, judged.recognised)


def _find_model(repository: Repository) -> Path:
    """Find the one ONNX file of a repository, by preference that of the name `model.onnx`.

    Raises:
        LadyError: there is none, or several.
    """
    models = sorted(repository.folder.rglob("*.onnx"))
    plain = [m for m in models if m.name == "model.onnx"]
    chosen = plain if len(plain) == 1 else models
    if len(chosen) != 1:
        count = count_things(len(chosen), "ONNX file")
        raise LadyError(f"{repository.name} has {count}, and one is needed")
    return chosen[0]
