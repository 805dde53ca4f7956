"""submission.csv in the order and form of the data's own sample, read back and checked."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.datasets import kaggle, sample_submission
from cxr.datasets.prepared import Prepared
from cxr.datasets.sample_submission import SampleSubmission
from cxr.errors import DataError
from cxr.files import write_atomically
from cxr.imaging import rle
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.final_masks import final_mask
from stage3_stack.postprocessing.map_sets import MappedImages, MapSet
from stage3_stack.postprocessing.mean_maps import MeanMap
from stage3_stack.postprocessing.thresholds import PostprocessingParams, has_mask

Sizes = dict[str, tuple[int, int]]
"""(height, width) of the originals in pixels, by image_id."""


def write_test_submission(
    stage: Stage, prob: np.ndarray, test_set: MapSet | None, params: PostprocessingParams
) -> None:
    """Write submission.csv of the test images, and print what is in it.

    stage: where to write
    prob: stacked probabilities of the test images, float64 [n], in the manifest's order
    test_set: their maps in the same order; None without segmenters, and then there is nothing to submit
    params: the thresholds of the test
    """
    if test_set is None:
        print("stage 3: the recipe has no segmenters, so there are no masks to submit")
        return
    image_ids = test_set.images.ids
    form = read_sample(stage.paths.prepared_folder, image_ids)
    codes = encode_final_masks(test_set.images, has_mask(params, test_set.histograms, prob), params, stage.prepared)
    unread_ids = write_submission(stage.paths.submission_csv, form, codes, image_sizes(stage.prepared, image_ids))
    _report_submission(stage.paths.submission_csv, form, codes, unread_ids)


def encode_final_masks(
    images: MappedImages, with_mask: np.ndarray, params: PostprocessingParams, prepared: Prepared
) -> dict[str, str]:
    """RLE of each image's final mask in the original's pixels.

    images: n images with their maps
    with_mask: which of them have a mask that is not empty, bool [n]
    params: the thresholds
    prepared: the data that the images are of

    Returns the codes by image_id, in the images' order.
    """

    def encode_image(image_id: str, mean_map: MeanMap, is_drawn: bool) -> str:
        if not is_drawn:
            return rle.EMPTY
        box = prepared.get_letterbox(image_id)
        return rle.encode_mask(final_mask(mean_map.read_mean(image_id), box, params.mask_rule))

    return dict(zip(images.ids, images.map_in_threads(encode_image, with_mask.tolist()), strict=True))


def image_sizes(prepared: Prepared, image_ids: list[str]) -> Sizes:
    """(height, width) of the originals by image_id."""
    rows = prepared.manifest.loc[image_ids]
    return dict(zip(image_ids, zip(rows["height"].tolist(), rows["width"].tolist(), strict=True), strict=True))


def _report_submission(path: Path, form: SampleSubmission, codes: dict[str, str], unread_ids: list[str]) -> None:
    submitted_ids = [image_id for image_id in form.ids if image_id in codes]
    filled_count = sum(codes[image_id] != rle.EMPTY for image_id in submitted_ids)
    print(f"{path}: {len(form.ids)} images, {filled_count} with a mask")
    if unread_ids:
        listed_ids = ", ".join(unread_ids[:5]) + (f" and {len(unread_ids) - 5} more" if len(unread_ids) > 5 else "")
        print(f"no readable image, so left empty: {listed_ids}")
    if len(submitted_ids) < len(codes):
        print(f"{len(codes) - len(submitted_ids)} test images are not in the sample submission, so left out")


def read_sample(prepared_folder: Path, test_ids: list[str]) -> SampleSubmission:
    """The form that prepare took from the data's sample submission; all test images, sorted, where it has none."""
    sample = sample_submission.load_sample_submission(prepared_folder / "sample.json")
    return sample or SampleSubmission(sorted(test_ids))


def write_submission(path: Path, form: SampleSubmission, codes: dict[str, str], sizes: Sizes) -> list[str]:
    """Write a submission, read it back and check it.

    path: of submission.csv
    form: order and spelling of the images, header and blanks of the sample
    codes: RLE of the masks by image_id
    sizes: (height, width) of the originals in pixels, by image_id

    Returns the images of the sample that have no code, as they could not be read; they are '-1' in the file.
    Raises DataError if the file, read back, holds anything else.
    """
    rows = [(form.names.get(key, key), form.blank + codes.get(key, rle.EMPTY)) for key in form.ids]
    with write_atomically(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows([form.header, *rows])
        check_submission(temporary, form, codes, sizes)
    return [image_id for image_id in form.ids if image_id not in codes]


def check_submission(path: Path, form: SampleSubmission, codes: dict[str, str], sizes: Sizes) -> None:
    """Compare a submission with what it is made from; arguments as of `write_submission`: path, form, codes, sizes.

    Raises DataError if its header, its images or a mask differ, or if a mask does not fit its image.
    """
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


def read_truth(path: Path, sizes: Sizes) -> dict[str, str]:
    """The union of each image's masks, as one RLE, from a table ImageId,EncodedPixels (several rows an image).

    Images without a size are left out. Raises DataError if a mask does not fit its image.
    """
    rows = kaggle.read_mask_rows(path)
    try:
        return {key: _merge_codes([row.code for row in rows[key]], *sizes[key]) for key in rows if key in sizes}
    except rle.RleError as error:
        raise DataError(f"{path}: a mask {error}") from None


def _merge_codes(codes: list[str], height: int, width: int) -> str:
    return codes[0] if len(codes) == 1 else rle.encode_mask(rle.decode_union(codes, height, width))
