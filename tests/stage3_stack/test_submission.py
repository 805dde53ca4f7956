"""The submission has the sample's order and form, and holds what was decided."""

import numpy as np
import pytest

from cxr.datasets import kaggle, sample_submission
from cxr.datasets.sample_submission import SampleSubmission
from cxr.errors import DataError, UsageError
from cxr.imaging import rle
from stage3_stack.postprocessing import submission

SIZES = {"b": (4, 5), "a": (3, 3)}


def codes() -> dict[str, str]:
    mask = np.zeros((4, 5), bool)
    mask[2:, 4] = True  # to the last pixel
    return {"a": rle.EMPTY, "b": rle.encode_mask(mask)}


def submitted(folder, text: str) -> str:
    """What becomes of a sample of these words, as prepare keeps it and stage 3 takes it up."""
    (folder / "sample_submission.csv").write_text(text)
    sample_submission.write_sample_submission(kaggle.find_layout(folder).read_sample(), folder / "sample.json")
    submission.write_submission(
        folder / "out" / "submission.csv", submission.read_sample(folder, ["a", "b"]), codes(), SIZES
    )
    return (folder / "out" / "submission.csv").read_text()


@pytest.mark.parametrize(("text", "expected"), [
    ("ImageId, EncodedPixels\nb, -1\ngone, -1\nb, -1\na, -1\n",
     "ImageId, EncodedPixels\nb, 18 2\ngone, -1\na, -1\n"),
    ("ImageId,EncodedPixels\na,-1\nb,-1\n", "ImageId,EncodedPixels\na,-1\nb,18 2\n"),
    (",ImageId,EncodedPixels\n0,b,-1\n1,a,-1\n", "ImageId,EncodedPixels\nb,18 2\na,-1\n"),
    ("EncodedPixels,Usage,ImageId\n-1,Public,b\n", "ImageId,EncodedPixels\nb,18 2\n"),
    ("imageid,encodedpixels,\nb,-1,\n", "imageid,encodedpixels\nb,18 2\n"),
    ("ImageId;EncodedPixels\nx/b.DCM;-1\na.dcm;-1\n", "ImageId,EncodedPixels\nx/b.DCM,18 2\na.dcm,-1\n"),
    ('ImageId,EncodedPixels\n"o,k",-1\n"o""k",-1\nb,-1\n', 'ImageId,EncodedPixels\n"o,k",-1\n"o""k",-1\nb,18 2\n'),
])  # fmt: skip
def test_order_names_header_and_blanks_are_the_samples(tmp_path, text, expected):
    assert submitted(tmp_path, text) == expected


@pytest.mark.parametrize(("text", "words"), [
    ("ImageId,EncodedPixels\na,-1\na.dcm,-1\n", "line 3: a.dcm is an image that stands there as a, too"),
    ("ImageId,EncodedPixels\n", "names no image"), ("ImageId,EncodedPixels\na,b,-1\n", "line 2: has 3 columns"),
    ("Image,EncodedPixels\na,-1\n", "line 1: expected the columns"),
])  # fmt: skip
def test_what_cannot_be_submitted_is_refused_by_prepare(tmp_path, text, words):
    (tmp_path / "sample_submission.csv").write_text(text)
    with pytest.raises(DataError, match=rf"sample_submission\.csv.*{words}"):
        kaggle.find_layout(tmp_path).read_sample_ids()


def test_images_without_a_mask_are_told(tmp_path):
    assert submission.write_submission(tmp_path / "s.csv", SampleSubmission(["b", "gone"]), codes(), SIZES) == ["gone"]


def test_without_a_sample_all_test_images_are_there(tmp_path):
    with pytest.raises(UsageError, match=r"sample\.json is missing or damaged; it is made by: prepare"):
        submission.read_sample(tmp_path, ["b", "a"])
    sample_submission.write_sample_submission(None, tmp_path / "sample.json")
    submission.write_submission(tmp_path / "s.csv", submission.read_sample(tmp_path, ["b", "a"]), codes(), SIZES)
    assert (tmp_path / "s.csv").read_text() == "ImageId,EncodedPixels\na,-1\nb,18 2\n"


def test_a_code_that_does_not_fit_its_image_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="the mask of a runs to pixel 12, but the image has 9"):
        submission.write_submission(tmp_path / "s.csv", SampleSubmission(["a"]), {"a": "10 2"}, SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["ImageId,EncodedPixels\nb,-1\n", "ImageId, EncodedPixels\na,-1\n"])
def test_a_file_that_is_not_the_samples_is_found_out(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match="are not the sample's"):
        submission.check_submission(tmp_path / "s.csv", SampleSubmission(["a"]), codes(), SIZES)


def test_a_lost_run_is_found_out(tmp_path):
    (tmp_path / "s.csv").write_text("ImageId,EncodedPixels\nb,-1\n")
    with pytest.raises(DataError, match="the mask of b was not written as it is"):
        submission.check_submission(tmp_path / "s.csv", SampleSubmission(["b"]), codes(), SIZES)


def test_several_rows_of_truth_are_one_mask(tmp_path):
    (tmp_path / "truth.csv").write_text("ImageId, EncodedPixels\nb, 0 3\nb, 1 4\na, -1\nother, -1\n")
    assert submission.read_truth(tmp_path / "truth.csv", SIZES) == {"a": "-1", "b": "0 5"}
