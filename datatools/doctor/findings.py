"""A finding: what is the matter with some images or rows of the data, how grave it is, what to do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from cxr.config import StrictModel

MAX_EXAMPLES = 5
SEVERITIES = ("note", "warning", "error")
WARNING_SHARE = 0.01


class FindingKind(StrictModel):
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
def load_catalogue() -> dict[str, FindingKind]:
    """Every kind of finding by its id."""
    text = Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")
    return {name: FindingKind(**entry) for name, entry in yaml.safe_load(text).items()}


def report_finding(kind: str, examples: Sequence, total: int = 0, **words: object) -> Iterator[Finding]:
    """The finding of a kind; none where there are no examples.

    examples: all there are, texts or (image_id, remark); total: of how many, for a kind that rises with its share;
    words: for the gaps in the kind's text.
    """
    if not examples:
        return
    entry = load_catalogue()[kind]
    is_many = entry.rising and len(examples) > max(1, WARNING_SHARE * total)
    first_examples = examples[:MAX_EXAMPLES]
    texts = tuple(example if isinstance(example, str) else f"{example[0]}: {example[1]}" for example in first_examples)
    pictured_ids = (
        tuple(example if isinstance(example, str) else example[0] for example in first_examples)
        if entry.pictured
        else ()
    )
    yield Finding(
        kind, "warning" if is_many else entry.severity, len(examples), entry.what.format(**words), texts, entry.advice,
        pictured_ids,
    )  # fmt: skip


def sort_by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, else as they came."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def compute_exit_code(findings: Iterable[Finding]) -> int:
    """0 up to notes, 4 from a warning up, 3 where a run would stop or could train nothing."""
    findings = list(findings)
    if any(load_catalogue()[finding.id].unusable for finding in findings):
        return 3
    return 4 if any(finding.severity != "note" for finding in findings) else 0
