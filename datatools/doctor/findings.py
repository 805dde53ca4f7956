"""A finding: what is wrong with some images or rows of the data, how severe it is, what to do.

A new kind is an entry in catalogue.yaml and a call of `report_finding` in a check; CONTRIBUTING.md ('Add a finding')
lists the steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from cxr.config import StrictModel

MAX_EXAMPLES = 5
SEVERITIES = ("note", "warning", "error")
WARNING_SHARE = 0.01  # of the images or rows: above it, a kind that is `rising` is a warning


class FindingKind(StrictModel):
    """One entry of catalogue.yaml, which explains its keys."""

    severity: Literal[SEVERITIES]
    what: str
    advice: str
    pictured: bool = False
    unusable: bool = False
    rising: bool = False


@dataclass(frozen=True)
class Finding:
    """One entry of the report; examples: image ids or lines of a file, never a patient's name or id."""

    id: str
    severity: str
    count: int
    what: str
    examples: tuple[str, ...]
    advice: str
    pictured: tuple[str, ...] = ()
    """Image ids of the examples whose pictures are shown."""


@cache
def load_catalogue() -> dict[str, FindingKind]:
    """Every kind of finding by its id."""
    text = Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")
    return {name: FindingKind(**entry) for name, entry in yaml.safe_load(text).items()}


def report_finding(kind: str, examples: Sequence, total: int = 0, **words: object) -> Iterator[Finding]:
    """Yield the finding of this kind, or nothing where there are no examples.

    kind: id in catalogue.yaml; examples: everything affected, each a text or (image_id, remark); total: number of which
    they are a part, needed for a kind that is `rising`; words: what the {placeholders} in the kind's text stand for.
    """
    if not examples:
        return
    entry = load_catalogue()[kind]
    is_many = entry.rising and len(examples) > max(1, WARNING_SHARE * total)
    first_examples = examples[:MAX_EXAMPLES]
    texts = tuple(example if isinstance(example, str) else f"{example[0]}: {example[1]}" for example in first_examples)
    ids = tuple(example if isinstance(example, str) else example[0] for example in first_examples)
    yield Finding(
        kind, "warning" if is_many else entry.severity, len(examples), entry.what.format(**words), texts, entry.advice,
        ids if entry.pictured else (),
    )  # fmt: skip


def sort_by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The most severe first; equally severe ones stay in their order."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def compute_exit_code(findings: Iterable[Finding]) -> int:
    """3 where a run would stop or nothing could be trained, else 4 with any warning or error, else 0."""
    findings = list(findings)
    if any(load_catalogue()[finding.id].unusable for finding in findings):
        return 3
    return 4 if any(finding.severity != "note" for finding in findings) else 0
