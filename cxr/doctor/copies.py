"""Are images there twice, and do the copies agree?"""

from collections.abc import Iterator

from cxr import duplicates
from cxr.doctor.findings import Finding, found
from cxr.doctor.material import Material


def check(material: Material) -> Iterator[Finding]:
    """Findings on exact and near-duplicates, and on those of other labels, splits or patients."""
    looks = material.usable
    groups = near(material)
    exact = [group for group in groups if len({looks[name].digest for name in group}) < len(group)]
    alike = [group for group in groups if len({looks[name].digest for name in group}) > 1]
    yield from found("exact-duplicates", _shown(exact))
    yield from found("near-duplicates", _shown(alike))
    for kind, trait in (("other-label", material.labels), ("in-test", _train_or_test(material)),
                        ("other-patient", material.patients)):  # fmt: skip
        at_odds = [group for group in groups if len({trait[name] for name in group if name in trait}) > 1]
        yield from found(f"duplicates-{kind}", _shown(at_odds))


def near(material: Material) -> list[list[str]]:
    """Groups of two and more images that are the same or look so; blank ones are in none."""
    numbers = duplicates.linked([(one.signature, one.thumbnail) for one in material.usable.values()])
    groups: dict[int, list[str]] = {}
    for name, number in zip(material.usable, numbers.tolist(), strict=True):
        groups.setdefault(number, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _train_or_test(material: Material) -> dict[str, str]:
    return {name: split for name, split in material.splits.items() if split in ("train", "test")}


def _shown(groups: list[list[str]]) -> list[tuple[str, str]]:
    return [(group[0], "also " + ", ".join(group[1:4]) + (", ..." if len(group) > 4 else "")) for group in groups]
