"""submission.csv in the order and form of the data's own sample, read back and checked."""

import csv
from pathlib import Path

import pandas as pd

from cxr.datasets import kaggle, sample_submission
from cxr.datasets.sample_submission import SampleSubmission
from cxr.errors import DataError
from cxr.files import write_atomically
from cxr.imaging import rle


def read_sample(prepared: Path, test_ids: list[str]) -> SampleSubmission:
    """The form that prepare took from the data's sample submission; all test images, sorted, where it has none."""
    return sample_submission.load_sample_submission(prepared / "sample.json") or SampleSubmission(sorted(test_ids))


def write_submission(
    path: Path, form: SampleSubmission, codes: dict[str, str], sizes: dict[str, tuple[int, int]]
) -> list[str]:
    """Write a submission of the masks' RLE by image_id; `sizes` are (height, width) of the originals.

    Returns the images of the sample that there is no mask for (they could not be read): '-1' in the file.
    Raises DataError where the file, read back, does not hold just this.
    """
    rows = [(form.names.get(key, key), form.blank + codes.get(key, rle.EMPTY)) for key in form.ids]
    with write_atomically(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows([form.header, *rows])
        check_submission(temporary, form, codes, sizes)
    return [image_id for image_id in form.ids if image_id not in codes]


def check_submission(
    path: Path, form: SampleSubmission, codes: dict[str, str], sizes: dict[str, tuple[int, int]]
) -> None:
    """Raise DataError where a submission has other rows, or a code that does not fit its image."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [form.names.get(key, key) for key in form.ids]
    if tuple(table.columns) != form.header or table.iloc[:, 0].tolist() != names:
        raise DataError(f"{path}: its header or its images are not the sample's")
    for image_id, text in zip(form.ids, table.iloc[:, 1], strict=True):
        code = text.strip()
        if code != codes.get(image_id, rle.EMPTY):
            raise DataError(f"{path}: the mask of {image_id} was not written as it is")
        if image_id in sizes:
            height, width = sizes[image_id]
            _check_code_fits(path, image_id, code, height * width)


def _check_code_fits(path: Path, image_id: str, code: str, pixels: int) -> None:
    try:
        rle.parse_runs(code, pixels)
    except rle.RleError as error:
        raise DataError(f"{path}: the mask of {image_id} {error}") from None


def read_truth(path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, str]:
    """The union of each image's masks, as one RLE, from a table ImageId,EncodedPixels (several rows an image)."""
    rows = kaggle.read_mask_rows(path)
    try:
        return {key: _merge_codes([row.code for row in rows[key]], *sizes[key]) for key in rows if key in sizes}
    except rle.RleError as error:
        raise DataError(f"{path}: a mask {error}") from None


def _merge_codes(codes: list[str], height: int, width: int) -> str:
    return codes[0] if len(codes) == 1 else rle.encode_mask(rle.decode_union(codes, height, width))
