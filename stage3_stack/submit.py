"""submission.csv in the order and form of the data's own sample, read back and checked."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxr import rle
from cxr.errors import DataError
from cxr.files import replacing
from stage3_stack.config import sample

HEADER = ("ImageId", "EncodedPixels")


@dataclass(frozen=True)
class Sample:
    """What a submission must look like."""

    ids: list[str]
    """Images in their order, each once"""
    header: tuple[str, str] = HEADER
    """As it stands in the file, with its blanks"""
    blank: str = ""
    """What stands before a code: the first release has a blank there"""


def read_sample(data: Path, test_ids: list[str]) -> Sample:
    """The data's sample submission; all test images, sorted, where it has none.

    A sample names an image several times where its mask has several regions; a submission has one row each.
    """
    path = sample(data)
    return Sample(sorted(test_ids)) if path is None else _parse(path)


def _parse(path: Path) -> Sample:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if [name.strip() for name in table.columns] != list(HEADER):
        raise DataError(f"{path}: expected the columns {','.join(HEADER)}, found {','.join(table.columns)}")
    ids = table.iloc[:, 0].str.strip()
    blank = " " if len(table) and table.iloc[:, 1].str.startswith(" ").all() else ""
    return Sample(ids.drop_duplicates().tolist(), tuple(table.columns), blank)


def write(path: Path, form: Sample, codes: dict[str, str], sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Write a submission of the masks' RLE by image_id; `sizes` are (height, width) of the originals.

    Returns the images of the sample that there is no mask for (they could not be read): '-1' in the file.
    Raises DataError where the file, read back, does not hold just this.
    """
    lines = [",".join(form.header)]
    lines += [f"{image_id},{form.blank}{codes.get(image_id, rle.EMPTY)}" for image_id in form.ids]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        check(temporary, form, codes, sizes)
    return [image_id for image_id in form.ids if image_id not in codes]


def check(path: Path, form: Sample, codes: dict[str, str], sizes: dict[str, tuple[int, int]]) -> None:
    """Raise DataError where a submission has other rows, or a code that does not fit its image."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != form.header or table.iloc[:, 0].tolist() != form.ids:
        raise DataError(f"{path}: its header or its images are not the sample's")
    for image_id, text in zip(form.ids, table.iloc[:, 1], strict=True):
        code = text.strip()
        if code != codes.get(image_id, rle.EMPTY):
            raise DataError(f"{path}: the mask of {image_id} was not written as it is")
        if image_id in sizes:
            height, width = sizes[image_id]
            _fits(path, image_id, code, height * width)


def _fits(path: Path, image_id: str, code: str, pixels: int) -> None:
    try:
        rle.runs(code, pixels)
    except rle.RleError as error:
        raise DataError(f"{path}: the mask of {image_id} {error}") from None


def read_truth(path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, str]:
    """The union of each image's masks, as one RLE, from a table ImageId,EncodedPixels (several rows an image)."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False).rename(columns=str.strip)
    missing = [name for name in HEADER if name not in table.columns]
    if missing:
        raise DataError(f"{path}: column {missing[0]} is missing")
    rows = table["EncodedPixels"].groupby(table["ImageId"].str.strip())
    try:
        return {key: _union(rows.get_group(key), *sizes[key]) for key in rows.groups if key in sizes}
    except rle.RleError as error:
        raise DataError(f"{path}: a mask {error}") from None


def _union(texts: pd.Series, height: int, width: int) -> str:
    texts = [text.strip() for text in texts]
    return texts[0] if len(texts) == 1 else rle.encode(rle.union(texts, height, width))
