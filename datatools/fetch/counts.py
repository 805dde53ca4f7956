"""What the data folder holds, compared with the published counts of the SIIM-ACR data."""

from dataclasses import dataclass
from pathlib import Path

from cxr.datasets import kaggle
from cxr.errors import DataError


@dataclass(frozen=True)
class ReleaseCounts:
    """The published counts of one release of the data; None where unknown."""

    name: str
    images: int
    """Images with a mask row."""
    rows: int | None
    """Mask rows."""
    unlabelled_dicoms: int | None
    """DICOM files that have no mask row and are not to be predicted."""


STAGE2_RELEASE = ReleaseCounts("stage 2's release", images=12_047, rows=12_954, unlabelled_dicoms=42)
STAGE1_RELEASE = ReleaseCounts("stage 1's release", images=10_675, rows=None, unlabelled_dicoms=None)
TEST_COUNTS = (3_205, 1_377)  # test images of stage 2, of stage 1 (stage 2's release labels 1,372 of these)


@dataclass(frozen=True)
class FolderCounts:
    """What a data folder holds."""

    dicoms: int
    rows: int
    images: int
    """Images with a mask row."""
    labelled_dicoms: int
    """How many of these have a DICOM file."""
    images_to_predict: int
    """Images of the sample submission."""
    test_dicoms: int
    """How many of these have a DICOM file."""
    unlabelled_dicoms: int
    """DICOM files that have no mask row and are not to be predicted."""
    has_patients: bool


def count_data(data_folder: Path) -> FolderCounts:
    """Count what a data folder holds; DataError without a DICOM file or a table of masks: nothing could be trained."""
    layout = kaggle.find_layout(data_folder)
    if not layout.dicoms:
        raise DataError(f"{data_folder} holds no DICOM file (*.dcm) yet: fetch the images, too")
    rows, samples, files = layout.read_mask_rows(), set(layout.read_sample_ids()), layout.files_by_id
    splits = [kaggle.assign_split(name, file, rows, samples) for name, file in files.items()]
    return FolderCounts(
        len(files), sum(map(len, rows.values())), len(rows), splits.count("train"), len(samples),
        len(samples & files.keys()), splits.count("unlabelled"), layout.patients_csv is not None,
    )  # fmt: skip


def report_counts(data_folder: Path) -> None:
    """Print what is there and what is missing; counts other than the published ones are no error, as mirrors differ."""
    counts = count_data(data_folder)
    print(f"{data_folder} holds:")
    print(f"  {counts.dicoms:>7,} DICOM images")
    rows_text = f"{counts.rows:,} rows"
    print(f"  {counts.images:>7,} images with mask rows ({rows_text}), {counts.labelled_dicoms:,} with their DICOM")
    print(f"  {counts.images_to_predict:>7,} images to predict, {counts.test_dicoms:,} with their DICOM")
    print(f"  {counts.unlabelled_dicoms:>7,} DICOM images without a row")
    for remark in list_remarks(counts):
        print(f"  {remark}")


def list_remarks(counts: FolderCounts) -> list[str]:
    """A line for each thing that is missing, or differs from the published counts."""
    release = next((release for release in (STAGE2_RELEASE, STAGE1_RELEASE) if release.images == counts.images), None)
    lines = [
        f"the table is {release.name}'s" if release else _warn_unknown_table(counts),
        *_list_differences(counts, release),
    ]
    if counts.images > counts.labelled_dicoms:
        lines.append(f"missing: the DICOM files of {counts.images - counts.labelled_dicoms:,} images with mask rows")
    if not counts.images_to_predict:
        lines.append("missing: a sample submission; test images are recognised by their folder's name")
    elif counts.images_to_predict not in TEST_COUNTS:
        lines.append(f"warning: the known tests have {' or '.join(f'{count:,}' for count in TEST_COUNTS)} images")
    if counts.images_to_predict > counts.test_dicoms:
        lines.append(f"missing: the DICOM files of {counts.images_to_predict - counts.test_dicoms:,} images to predict")
    if not counts.has_patients:
        lines.append("missing: patients.csv; data/README.md tells why to bring one")
    return lines


def _warn_unknown_table(counts: FolderCounts) -> str:
    return (
        f"warning: the SIIM-ACR data label {STAGE2_RELEASE.images:,} images (or {STAGE1_RELEASE.images:,} in stage 1), "
        f"this table {counts.images:,}"
    )


def _list_differences(counts: FolderCounts, release: ReleaseCounts | None) -> list[str]:
    if release is None:
        return []
    pairs = {
        "mask rows": (release.rows, counts.rows),
        "DICOM images without a row": (release.unlabelled_dicoms, counts.unlabelled_dicoms),
    }
    return [
        f"warning: {description}: {expected:,} are known, {count:,} are here"
        for description, (expected, count) in pairs.items()
        if expected is not None and count != expected
    ]
