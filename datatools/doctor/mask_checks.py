"""Are the mask rows such as a reader may have drawn?"""

from collections.abc import Iterator

from cxr.imaging import rle
from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding
from datatools.doctor.image_scan import ImageScan

TINY_SHARE = 1e-4  # of the image: 105 of 1024 x 1024 pixels; the smallest mask that a reader drew has six times as many
HUGE_SHARE = 0.5


def check_masks(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on the run-length codes and on the sizes of the masks."""
    yield from report_finding("bad-rle", _list_bad_rows(dataset, "bad_rows"))
    yield from report_finding("rle-outside", _list_bad_rows(dataset, "rows_outside"))
    overlapping = [(name, f"{scan.overlap} pixels") for name, scan in dataset.scans.items() if scan.overlap]
    yield from report_finding("overlapping-rows", overlapping)
    yield from report_finding(
        "contradicting-rows", [name for name, rows in dataset.rows.items() if _are_contradicting(rows)]
    )
    shares = {name: _mask_share(scan) for name, scan in dataset.usable_scans.items() if scan.area}
    sizes = {name: f"{dataset.scans[name].area} pixels, {share:.3%}" for name, share in shares.items()}
    yield from report_finding(
        "tiny-masks", [(name, sizes[name]) for name, share in shares.items() if share < TINY_SHARE], share=TINY_SHARE
    )
    yield from report_finding(
        "huge-masks", [(name, sizes[name]) for name, share in shares.items() if share > HUGE_SHARE]
    )


def _list_bad_rows(dataset: DatasetScan, field_name: str) -> list[tuple[str, str]]:
    """(image id, line and reason) of the rows in this field of ImageScan; only of images that prepare uses."""
    table = dataset.layout.rows_csv.name if dataset.layout.rows_csv else ""
    return [(name, f"{table}, line {line}: {reason}")
            for name, scan in dataset.usable_scans.items() for line, reason in getattr(scan, field_name)]  # fmt: skip


def _are_contradicting(rows: list) -> bool:
    """Whether an image has both an empty row and a mask."""
    is_empty = [row.code in ("", rle.EMPTY) for row in rows]
    return any(is_empty) and not all(is_empty)


def _mask_share(scan: ImageScan) -> float:
    return scan.area / (scan.height * scan.width)
