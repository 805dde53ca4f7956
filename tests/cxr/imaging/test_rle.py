"""The run-length code against a decoder written here, pixel by pixel, from Kaggle's description."""

import numpy as np
import pytest

from cxr.imaging import rle


def slow_decode(text: str, height: int, width: int) -> np.ndarray:
    """Walk along the code: skip so many pixels, then set so many; top to bottom, then left to right."""
    mask = np.zeros((height, width), bool)
    if text.strip() in ("", "-1"):
        return mask
    at, numbers = 0, [int(word) for word in text.split()]
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        at += offset
        for _ in range(length):
            mask[at % height, at // height] = True
            at += 1
    return mask


def masks() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    named = {"empty": np.zeros((5, 7), bool), "full": np.ones((5, 7), bool), "one pixel": np.ones((1, 1), bool)}
    for name, place in {"first": (0, 0), "last": (-1, -1), "upper right": (0, -1), "lower left": (-1, 0)}.items():
        named[name] = np.zeros((5, 7), bool)
        named[name][place] = True
    named["last column"] = np.zeros((6, 4), bool)
    named["last column"][2:, -1] = True
    for number in range(20):
        named[f"random {number}"] = random.random(random.integers(1, 30, 2)) < random.random()
    return named


@pytest.mark.parametrize("mask", masks().values(), ids=masks())
def test_round_trip(mask):
    code = rle.encode_mask(mask)
    np.testing.assert_array_equal(slow_decode(code, *mask.shape), mask)
    np.testing.assert_array_equal(rle.decode_mask(code, *mask.shape), mask)


@pytest.mark.parametrize(("text", "pixels"), [
    ("0 1", [(0, 0)]), ("5 2", [(2, 1), (0, 2)]), ("8 1", [(2, 2)]), (" -1", []), ("", []), ("-1", []),
    ("1 1 0 1", [(1, 0), (2, 0)]), ("0 1 7 1", [(0, 0), (2, 2)]),
])  # fmt: skip
def test_decodes_by_hand(text, pixels):
    expected = np.zeros((3, 3), bool)
    for place in pixels:
        expected[place] = True
    np.testing.assert_array_equal(rle.decode_mask(text, 3, 3), expected)


def test_full_image_is_one_run():
    assert rle.encode_mask(np.ones((3, 4))) == "0 12"
    assert rle.encode_mask(np.zeros((3, 4))) == "-1"


def test_union_of_rows():
    rows = ["0 4", "2 4", "11 1", "-1"]
    expected = np.any([slow_decode(row, 3, 4) for row in rows], axis=0)
    np.testing.assert_array_equal(rle.decode_union(rows, 3, 4), expected)


def test_runs_give_ends_past_the_last_pixel():
    assert rle.parse_runs("2 3 1 4", 10).tolist() == [[2, 5], [6, 10]]


@pytest.mark.parametrize(("text", "reason"), [
    ("0 13", "runs to pixel 13, but the image has 12"), ("11 2", "runs to pixel 13"), ("1 2 3", "odd count"),
    ("7", "odd count"), ("0 a", "not a whole number"), ("1.5 2", "not a whole number"), ("3 0", "length 0"),
    ("3 -2", "length 0 or less"), ("0 4 -2 3", "negative offset"), ("9" * 30 + " 1", "not a whole number"),
])  # fmt: skip
def test_bad_codes_say_why(text, reason):
    with pytest.raises(rle.RleError, match=reason):
        rle.decode_mask(text, 3, 4)
