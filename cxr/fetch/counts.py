"""What was found in the data folder, beside what is known of the SIIM-ACR data."""

from dataclasses import dataclass
from pathlib import Path

from cxr import kaggle
from cxr.errors import DataError


@dataclass(frozen=True)
class Known:
    """The counts of one release."""

    name: str
    images: int
    """With a mask row."""
    rows: int | None
    unlabelled: int | None
    """DICOM files without a row, that are not to be predicted either."""


LATER = Known("stage 2's release", images=12_047, rows=12_954, unlabelled=42)
EARLIER = Known("stage 1's release", images=10_675, rows=None, unlabelled=None)
TESTS = (3_205, 1_377)  # stage 2's; stage 1's, of which stage 2's release labels 1,372


@dataclass(frozen=True)
class Found:
    """What lies in a data folder."""

    dicoms: int
    rows: int
    images: int
    """With a mask row."""
    labelled: int
    """Of these, with a DICOM file."""
    samples: int
    """Images of the sample submission."""
    tests: int
    """Of these, with a DICOM file."""
    unlabelled: int
    has_patients: bool


def look(data: Path) -> Found:
    """Count. Raises DataError where there is no DICOM file or no table of masks: nothing can be trained then."""
    layout = kaggle.find(data)
    if not layout.dicoms:
        raise DataError(f"{data} holds no DICOM file (*.dcm) yet: fetch the images, too")
    rows, samples, files = layout.rows(), set(layout.samples()), layout.images
    splits = [kaggle.split(name, file, rows, samples) for name, file in files.items()]
    return Found(
        len(files), sum(map(len, rows.values())), len(rows), splits.count("train"), len(samples),
        len(samples & files.keys()), splits.count("unlabelled"), layout.patients_csv is not None,
    )  # fmt: skip


def report(data: Path) -> None:
    """Print what was found and what is missing; other counts than the known ones are no error, as mirrors differ."""
    found = look(data)
    print(f"{data} holds:")
    print(f"  {found.dicoms:>7,} DICOM images")
    print(f"  {found.images:>7,} images with mask rows ({found.rows:,} rows), {found.labelled:,} with their DICOM")
    print(f"  {found.samples:>7,} images to predict, {found.tests:,} with their DICOM")
    print(f"  {found.unlabelled:>7,} DICOM images without a row")
    for remark in remarks(found):
        print(f"  {remark}")


def remarks(found: Found) -> list[str]:
    """What is as known, and what is not."""
    known = next((known for known in (LATER, EARLIER) if known.images == found.images), None)
    lines = [f"the table is {known.name}'s" if known else _unknown(found), *_differences(found, known)]
    if found.images > found.labelled:
        lines.append(f"missing: the DICOM files of {found.images - found.labelled:,} images with mask rows")
    if not found.samples:
        lines.append("missing: a sample submission; test images are told by their folder's name")
    elif found.samples not in TESTS:
        lines.append(f"warning: the known tests have {' or '.join(f'{count:,}' for count in TESTS)} images")
    if found.samples > found.tests:
        lines.append(f"missing: the DICOM files of {found.samples - found.tests:,} images to predict")
    if not found.has_patients:
        lines.append("missing: patients.csv; data/README.md tells why to bring one")
    return lines


def _unknown(found: Found) -> str:
    return (
        f"warning: the SIIM-ACR data label {LATER.images:,} images (or {EARLIER.images:,} in stage 1), "
        f"this table {found.images:,}"
    )


def _differences(found: Found, known: Known | None) -> list[str]:
    if known is None:
        return []
    pairs = {"mask rows": (known.rows, found.rows), "DICOM images without a row": (known.unlabelled, found.unlabelled)}
    return [
        f"warning: {what}: {expected:,} are known, {count:,} are here"
        for what, (expected, count) in pairs.items()
        if expected is not None and count != expected
    ]
