"""The submission has the sample's order and form, and holds what was decided."""

import numpy as np
import pytest

from cxr import rle
from cxr.errors import DataError
from stage3_stack import submit

SIZES = {"b": (4, 5), "a": (3, 3)}


def codes() -> dict[str, str]:
    mask = np.zeros((4, 5), bool)
    mask[2:, 4] = True  # to the last pixel
    return {"a": rle.EMPTY, "b": rle.encode(mask)}


def test_order_header_and_blanks_are_the_samples(tmp_path):
    (tmp_path / "sample_submission.csv").write_text("ImageId, EncodedPixels\nb, -1\ngone, -1\nb, -1\na, -1\n")
    form = submit.read_sample(tmp_path, ["a", "b"])
    unread = submit.write(tmp_path / "out" / "submission.csv", form, codes(), SIZES)
    assert unread == ["gone"]
    assert (tmp_path / "out" / "submission.csv").read_text() == "ImageId, EncodedPixels\nb, 18 2\ngone, -1\na, -1\n"


def test_the_later_release_has_no_blanks(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "stage_2_sample_submission.csv").write_text("ImageId,EncodedPixels\na,-1\nb,-1\n")
    submit.write(tmp_path / "s.csv", submit.read_sample(tmp_path, ["a", "b"]), codes(), SIZES)
    assert (tmp_path / "s.csv").read_text() == "ImageId,EncodedPixels\na,-1\nb,18 2\n"


def test_without_a_sample_all_test_images_are_there(tmp_path):
    submit.write(tmp_path / "s.csv", submit.read_sample(tmp_path, ["b", "a"]), codes(), SIZES)
    assert (tmp_path / "s.csv").read_text() == "ImageId,EncodedPixels\na,-1\nb,18 2\n"


def test_a_code_that_does_not_fit_its_image_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="the mask of a runs to pixel 12, but the image has 9"):
        submit.write(tmp_path / "s.csv", submit.Sample(["a"]), {"a": "10 2"}, SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["ImageId,EncodedPixels\nb,-1\n", "ImageId, EncodedPixels\na,-1\n"])
def test_a_file_that_is_not_the_samples_is_found_out(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match="are not the sample's"):
        submit.check(tmp_path / "s.csv", submit.Sample(["a"]), codes(), SIZES)


def test_a_lost_run_is_found_out(tmp_path):
    (tmp_path / "s.csv").write_text("ImageId,EncodedPixels\nb,-1\n")
    with pytest.raises(DataError, match="the mask of b was not written as it is"):
        submit.check(tmp_path / "s.csv", submit.Sample(["b"]), codes(), SIZES)


def test_several_rows_of_truth_are_one_mask(tmp_path):
    (tmp_path / "truth.csv").write_text("ImageId, EncodedPixels\nb, 0 3\nb, 1 4\na, -1\nother, -1\n")
    assert submit.read_truth(tmp_path / "truth.csv", SIZES) == {"a": "-1", "b": "0 5"}
