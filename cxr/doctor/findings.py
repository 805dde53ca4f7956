"""A finding: what is the matter with some images or rows of the data, how grave it is, what to do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from cxr.config import Strict

EXAMPLES = 5
SEVERITIES = ("note", "warning", "error")
MANY = 0.01


class Kind(Strict):
    """One entry of catalogue.yaml, where its keys are explained."""

    severity: Literal[SEVERITIES]
    what: str
    advice: str
    pictured: bool = False
    unusable: bool = False
    rising: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of the report; examples: image ids or places in a file, never a patient's name or id."""

    id: str
    severity: str
    count: int
    what: str
    examples: tuple[str, ...]
    advice: str
    pictured: tuple[str, ...] = ()
    """Image ids whose pictures show it."""


@cache
def kinds() -> dict[str, Kind]:
    """Every kind of finding by its id."""
    text = Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")
    return {name: Kind(**entry) for name, entry in yaml.safe_load(text).items()}


def found(kind: str, examples: Sequence, out_of: int = 0, **words: object) -> Iterator[Finding]:
    """The finding of a kind; none where there are no examples.

    examples: all there are, texts or (image_id, remark); out_of: of how many, for a kind that rises with its share;
    words: for the gaps in the kind's text.
    """
    if not examples:
        return
    known = kinds()[kind]
    rises = known.rising and len(examples) > max(1, MANY * out_of)
    first = examples[:EXAMPLES]
    texts = tuple(one if isinstance(one, str) else f"{one[0]}: {one[1]}" for one in first)
    pictured = tuple(one if isinstance(one, str) else one[0] for one in first) if known.pictured else ()
    yield Finding(
        kind, "warning" if rises else known.severity, len(examples), known.what.format(**words), texts, known.advice,
        pictured,
    )  # fmt: skip


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, else as they came."""
    return sorted(findings, key=lambda one: -SEVERITIES.index(one.severity))


def exit_code(findings: Iterable[Finding]) -> int:
    """0 up to notes, 4 from a warning up, 3 where a run would stop or could train nothing."""
    findings = list(findings)
    if any(kinds()[one.id].unusable for one in findings):
        return 3
    return 4 if any(one.severity != "note" for one in findings) else 0
