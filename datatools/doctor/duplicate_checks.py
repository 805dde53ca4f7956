"""Are there copies of images, and do the copies agree?"""

from collections.abc import Iterator

from cxr.datasets import near_duplicates
from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding


def check_duplicates(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on exact and near-duplicates, and on copies that differ in label, split or patient."""
    scans = dataset.usable_scans
    groups = group_near_duplicates(dataset)
    exact_groups = [group for group in groups if len({scans[name].digest for name in group}) < len(group)]
    near_groups = [group for group in groups if len({scans[name].digest for name in group}) > 1]
    yield from report_finding("exact-duplicates", _list_copies(exact_groups))
    yield from report_finding("near-duplicates", _list_copies(near_groups))
    for kind, traits in (("other-label", dataset.labels), ("in-test", _select_train_and_test(dataset)),
                        ("other-patient", dataset.patients)):  # fmt: skip
        conflicting_groups = [group for group in groups if len({traits[name] for name in group if name in traits}) > 1]
        yield from report_finding(f"duplicates-{kind}", _list_copies(conflicting_groups))


def group_near_duplicates(dataset: DatasetScan) -> list[list[str]]:
    """Groups of two or more usable images that are equal or look the same; blank images are in no group."""
    group_numbers = near_duplicates.link_pictures(
        [(scan.signature, scan.thumbnail) for scan in dataset.usable_scans.values()]
    )
    groups: dict[int, list[str]] = {}
    for name, group_number in zip(dataset.usable_scans, group_numbers.tolist(), strict=True):
        groups.setdefault(group_number, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _select_train_and_test(dataset: DatasetScan) -> dict[str, str]:
    return {name: split for name, split in dataset.splits.items() if split in ("train", "test")}


def _list_copies(groups: list[list[str]]) -> list[tuple[str, str]]:
    return [(group[0], "also " + ", ".join(group[1:4]) + (", ..." if len(group) > 4 else "")) for group in groups]
