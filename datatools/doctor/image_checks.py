"""Is every image an upright, frontal radiograph of a chest, with a whole header?

Rotated and inverted images are recognised by their correlation with the mean picture of the data set. Measured on 483
upright radiographs: none fits the rotated mean better than the upright one by ROTATION_MARGIN; of the same radiographs,
rotated, 98 % are recognised.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from cxr.datasets.folder_scan import ALREADY_VISITED
from cxr.datasets.near_duplicates import is_blank
from cxr.imaging import dicom
from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding
from datatools.doctor.image_scan import ImageScan

FRONTAL_VIEWS = ("PA", "AP", "")
CHEST_BODY_PARTS = ("CHEST", "THORAX", "LUNG", "")
MIN_SIDE, MAX_ASPECT = 100, 2.0  # pixels of the shorter side; longer side over shorter
MIN_PICTURES = 12  # fewer make no useful mean picture
ROTATION_MARGIN, MIN_ROTATED_FIT = 0.2, 0.4  # correlations with the mean picture
MAX_NEGATIVE_FIT, MAX_UNLIKE_FIT = -0.4, 0.2


def check_images(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on the files, their headers, and the pictures in them."""
    yield from _check_files(dataset)
    scans = dataset.usable_scans
    for kind, (is_affected, describe_scan) in HEADER_CHECKS.items():
        examples = [
            (name, describe_scan(scan)) if describe_scan else name for name, scan in scans.items() if is_affected(scan)
        ]
        depths = Counter(scan.bits for scan in scans.values() if scan.bits > 8)
        yield from report_finding(kind, examples, bits=", ".join(map(str, sorted(depths))))
    yield from _check_sizes(scans)
    blank_names = [name for name, scan in scans.items() if is_blank(scan.thumbnail)]
    yield from report_finding("blank", blank_names)
    yield from _check_orientation({name: scan for name, scan in scans.items() if name not in set(blank_names)})


def _check_files(dataset: DatasetScan) -> Iterator[Finding]:
    refused_scans = {name: scan for name, scan in dataset.scans.items() if scan.refusal_reason}
    accepted_modalities = ("", *dicom.RADIOGRAPH_MODALITIES)
    unreadable_files = [
        skipped_file for skipped_file in dataset.layout.skipped_entries if skipped_file.reason != ALREADY_VISITED
    ]
    unreadable_files += [
        (name, scan.refusal_reason) for name, scan in refused_scans.items() if scan.modality in accepted_modalities
    ]
    yield from report_finding("unreadable", unreadable_files)
    other_modalities = [
        (name, scan.modality) for name, scan in refused_scans.items() if scan.modality not in accepted_modalities
    ]
    yield from report_finding("not-a-radiograph", other_modalities)


def _describe_size(scan: ImageScan) -> str:
    return f"{scan.width} x {scan.height}"


def _has_odd_size(scan: ImageScan) -> bool:
    short, long = sorted((scan.height, scan.width))
    return short < MIN_SIDE or long > MAX_ASPECT * short


HEADER_CHECKS: dict[str, tuple[Callable[[ImageScan], bool], Callable[[ImageScan], str] | None]] = {
    "no-modality": (lambda scan: not scan.modality, None),
    "other-body-part": (lambda scan: scan.body_part not in CHEST_BODY_PARTS, lambda scan: scan.body_part),
    "odd-size": (_has_odd_size, _describe_size),
    "monochrome1": (lambda scan: scan.photometric == "MONOCHROME1", None),
    "deep-gray": (lambda scan: scan.bits > 8, lambda scan: f"{scan.bits} bits"),
    "deep-monochrome1": (
        lambda scan: scan.photometric == "MONOCHROME1" and scan.bits > 8, lambda scan: f"{scan.bits}-bit MONOCHROME1",
    ),
    "non-frontal": (lambda scan: scan.view not in FRONTAL_VIEWS, lambda scan: scan.view),
    "burned-in": (lambda scan: scan.burned_in, None),
    "no-age": (lambda scan: not scan.age, None),
    "bad-age": (lambda scan: bool(scan.age) and scan.years is None, None),
    "no-sex": (lambda scan: scan.sex not in ("M", "F"), None),
    "no-view": (lambda scan: not scan.view, None),
}  # fmt: skip
"""Kind of finding -> whether an image has it, and the remark that the report adds to the image id, if any."""


def _check_sizes(scans: dict[str, ImageScan]) -> Iterator[Finding]:
    counts = Counter(map(_describe_size, scans.values()))
    commonest = counts.most_common(1)[0][0] if counts else ""
    other_sizes = [(name, _describe_size(scan)) for name, scan in scans.items() if _describe_size(scan) != commonest]
    yield from report_finding("several-sizes", other_sizes, commonest=commonest)


def _check_orientation(scans: dict[str, ImageScan]) -> Iterator[Finding]:
    """Findings on images that look rotated, inverted, or unlike the rest."""
    if len(scans) < MIN_PICTURES:
        return
    fits = correlate_with_mean(np.stack([scan.thumbnail for scan in scans.values()]))
    upright_fit, quarter_turns = fits[:, 0], 1 + fits[:, 1:].argmax(axis=1)
    best_fit = fits.max(axis=1)
    is_rotated = (best_fit > upright_fit + ROTATION_MARGIN) & (best_fit > MIN_ROTATED_FIT)
    is_negative = ~is_rotated & (upright_fit < MAX_NEGATIVE_FIT)
    is_unlike = ~is_rotated & ~is_negative & (upright_fit < MAX_UNLIKE_FIT)
    names = np.array(list(scans))
    yield from report_finding(
        "rotated", [(str(names[k]), f"by {90 * quarter_turns[k]} degrees") for k in np.flatnonzero(is_rotated)]
    )
    yield from report_finding("looks-inverted", names[is_negative].tolist())
    yield from report_finding("unlike-the-rest", names[is_unlike].tolist(), len(names))


def correlate_with_mean(thumbnails: np.ndarray) -> np.ndarray:
    """How well each thumbnail fits the mean of all, rotated by 0, 90, 180 and 270 degrees.

    thumbnails: [n, side, side]. Returns Pearson correlations, float [n, 4].
    """
    rows = _standardise_rows(thumbnails.reshape(len(thumbnails), -1).astype(float))
    mean_picture = rows.mean(axis=0).reshape(thumbnails.shape[1:])
    turned_means = _standardise_rows(np.stack([np.rot90(mean_picture, k).ravel() for k in range(4)]))
    return rows @ turned_means.T / rows.shape[1]


def _standardise_rows(rows: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and standard deviation 1; a constant row stays 0."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(rows.std(axis=1, keepdims=True), 1e-9)
