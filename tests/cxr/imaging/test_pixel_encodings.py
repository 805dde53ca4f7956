"""Every way to store and to show a pixel, against the plain reading of the standard in `reference_display`."""

import itertools
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxr.imaging import dicom as reader
from cxr.imaging import grayscale
from cxr.imaging.dicom import ImageError
from tests.cxr.imaging.reference_display import Lut, Radiograph, Refused, display

FORMATS = [(8, 8, 7), (8, 6, 5), (8, 6, 7), (16, 8, 7), (16, 8, 15), (16, 12, 11), (16, 12, 15), (16, 16, 15)]
AGAINST_THE_STANDARD = [(8, 8, 6), (8, 6, 4), (8, 8, 15), (16, 12, 7), (16, 16, 11), (16, 16, 16)]
WIDTH = 24  # pixels


def window(center: float, width: float, function: str = "LINEAR"):
    return lambda low, high: (low + center * (high - low), width * (high - low), function)


WINDOWS = {
    "none": lambda low, high: None, "centre 0": lambda low, high: (0, (high - low) / 2, "LINEAR"),
    "linear": window(0.4, 0.5), "exact": window(0.4, 0.5, "LINEAR_EXACT"), "sigmoid": window(0.6, 0.3, "SIGMOID"),
}  # fmt: skip
PADDINGS = {
    "none": lambda low, high: None, "0": lambda low, high: (0, 0), "lowest": lambda low, high: (low, low),
    "range": lambda low, high: (high, high - (high - low) // 4),
}  # fmt: skip


@cache
def ramp(count: int, top: int) -> tuple[int, ...]:
    """Entries from 0 to top, steeper at the end."""
    return tuple(round(top * (k / (count - 1)) ** 1.5) for k in range(count))


LUTS = {
    "none": lambda low: {}, "modality of 16 bits": lambda low: {"modality": Lut(low + 3, 16, ramp(60, 65535))},
    "modality of 8 bits, packed": lambda low: {"modality": Lut(low, 8, ramp(51, 255))},
    "VOI of 8 bits, packed": lambda low: {"voi": Lut(low, 8, ramp(300, 255))},
    "VOI of 12 bits": lambda low: {"voi": Lut(low, 12, ramp(700, 4000))},
    "VOI of 16 bits, entries of 12": lambda low: {"voi": Lut(low + 9, 16, ramp(900, 4095))},
}  # fmt: skip


def radiographs(allocated: int, stored: int, high: int):
    """Every combination of the rest, with a name; junk lies in the unused bits."""
    random = np.random.default_rng(0)
    for signed, monochrome1 in itertools.product((False, True), repeat=2):
        low = -(1 << stored - 1) if signed else 0
        top = low + (1 << stored) - 1
        numbers = np.linspace(low, top, WIDTH).round().astype(int)
        numbers[[3, 8, 9]], numbers[10:16] = (0, low, 5), low + np.arange(10, 61, 10) % (1 << stored)
        shift = max(high + 1 - stored, 0)
        mask = ((1 << stored) - 1) << shift & ((1 << allocated) - 1)
        junk = random.integers(0, 1 << allocated, WIDTH) & ~mask
        plain = Radiograph(tuple(((numbers << shift & mask) | junk).tolist()), allocated, stored, high, signed,
                           monochrome1)  # fmt: skip
        for padding, shade, lut in itertools.product(PADDINGS, WINDOWS, LUTS):
            parts = {"padding": PADDINGS[padding](low, top), "window": WINDOWS[shade](low, top)} | LUTS[lut](low)
            yield f"{signed=} {monochrome1=} {padding=} {shade=} {lut=}", replace(plain, **parts), "packed" in lut


def table(lut: Lut, packed: bool, big: bool) -> Dataset:
    """The item of a sequence; packed: 8-bit entries, two in a word."""
    item, count = Dataset(), len(lut.entries)
    item.add_new("LUTDescriptor", "SS" if lut.first < 0 else "US", [count % 65536, lut.first, lut.bits])
    entries = np.array(lut.entries, "u1" if packed else "<u2")
    words = np.frombuffer(entries.tobytes() + bytes(count % 2 * packed), "<u2")
    item.add_new("LUTData", "OW", words.astype(">u2" if big else "<u2").tobytes())
    return item


OPTIONAL = ("PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "VOILUTFunction",
            "ModalityLUTSequence", "VOILUTSequence")  # fmt: skip


class Headers:
    """Radiographs as DICOM data sets; `bare` makes one without window, padding and tables, and keeps it."""

    def __init__(self, dicom) -> None:
        self.bare = cache(partial(self._bare, dicom))

    @staticmethod
    def _bare(dicom, image: Radiograph, syntax: str):
        pixels = np.array([image.cells], f"u{image.allocated // 8}")
        return dicom.dataset(
            pixels, syntax, BitsStored=image.stored, HighBit=image.high, PixelRepresentation=int(image.signed),
            PhotometricInterpretation="MONOCHROME1" if image.monochrome1 else "MONOCHROME2",
        )  # fmt: skip

    def __call__(self, image: Radiograph, packed=False, syntax=uid.ExplicitVRLittleEndian, **elements: object):
        plain = replace(image, padding=None, window=None, modality=None, voi=None, rescale=(1, 0))
        header = self.bare(plain, syntax)
        for name in OPTIONAL:
            header.pop(tag_for_keyword(name), None)
        for name, value in (described(image) | elements).items():
            setattr(header, name, value)
        for name, lut in (("ModalityLUTSequence", image.modality), ("VOILUTSequence", image.voi)):
            if lut:
                setattr(header, name, Sequence([table(lut, packed, syntax == uid.ExplicitVRBigEndian)]))
        return header


def described(image: Radiograph) -> dict[str, object]:
    """The elements of a radiograph's padding and window."""
    elements = {}
    if image.padding:
        elements["PixelPaddingValue"] = image.padding[0]
        if image.padding[1] != image.padding[0]:
            elements["PixelPaddingRangeLimit"] = image.padding[1]
    if image.window:
        elements["WindowCenter"], elements["WindowWidth"] = (f"{value:.10g}" for value in image.window[:2])
        elements["VOILUTFunction"] = image.window[2]
    return elements


@pytest.fixture
def header(dicom) -> Headers:
    return Headers(dicom)


def shown(header) -> np.ndarray | None:
    """The gray picture of a data set, None where it is refused."""
    try:
        reader.require_decodable(header)
        return grayscale.render_gray(header)
    except ImageError:
        return None


def read(path) -> np.ndarray | None:
    """The gray picture of a file, None where it is refused."""
    try:
        return grayscale.read_gray(path)
    except ImageError:
        return None


def expected(image: Radiograph) -> list[float] | None:
    try:
        return display(image)
    except Refused:
        return None


def fault(found: np.ndarray | None, levels: list[float] | None) -> str | None:
    """How a picture differs from the reference, by more than one level; None where it does not."""
    if found is None or levels is None:
        return None if found is None and levels is None else f"found {found}, expected {levels}"
    if found.dtype != np.uint8 or found.shape != (1, len(levels)):
        return f"{found.dtype} {found.shape}"
    return None if np.abs(found[0] - np.array(levels)).max() <= 1 else f"found {found[0]}, expected {np.rint(levels)}"


@pytest.mark.parametrize("pixel", FORMATS, ids=str)
def test_every_combination_is_as_the_reference(header, pixel):
    faults, pictures = {}, 0
    for name, image, packed in radiographs(*pixel):
        found, levels = shown(header(image, packed)), expected(image)
        pictures += levels is not None
        if problem := fault(found, levels):
            faults[name] = problem
    assert not faults, f"{len(faults)} combinations, the first: {next(iter(faults.items()))}"
    assert pictures == 4 * len(PADDINGS) * len(WINDOWS) * len(LUTS)


@pytest.mark.parametrize("pixel", AGAINST_THE_STANDARD, ids=str)
def test_what_the_standard_forbids_is_refused(header, pixel):
    for name, image, packed in itertools.islice(radiographs(*pixel), 0, None, 31):
        assert expected(image) is None
        assert shown(header(image, packed)) is None, name


@pytest.mark.parametrize("syntax", [
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian, uid.RLELossless,
])  # fmt: skip
@pytest.mark.parametrize("pixel", [(8, 8, 7), (8, 6, 7), (16, 12, 15), (16, 16, 15)], ids=str)
def test_files_of_every_syntax_are_as_the_reference(header, dicom, tmp_path, syntax, pixel):
    for name, image, packed in itertools.islice(radiographs(*pixel), 5, None, 17):
        coded = syntax == uid.RLELossless
        written = header(image, packed, uid.ExplicitVRLittleEndian if coded else syntax)
        if coded and written.file_meta.TransferSyntaxUID != syntax:
            written.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        assert not fault(read(dicom.save(written, tmp_path / "image.dcm")), expected(image)), name


RAMP = Radiograph(tuple(range(0, 240, 10)))
DEEP = Radiograph(tuple(range(0, 4080, 170)), 16, 12, 11)


@pytest.mark.parametrize("base", [RAMP, DEEP], ids=["8 bits", "12 bits"])
@pytest.mark.parametrize("rescale", [(2, -100), (1, 0), (-1, 255), (0.5, 0), (1, -1000), (1e-13, 0), (1e200, 5)])
def test_rescale(header, base, rescale):
    image = replace(base, rescale=rescale, window=(500 * rescale[0], 900 * abs(rescale[0]), "LINEAR_EXACT"))
    for each in (image, replace(image, window=None)):
        slope, intercept = rescale
        assert not fault(shown(header(each, RescaleSlope=slope, RescaleIntercept=intercept)), display(each))


@pytest.mark.parametrize(("center", "width", "function"), [
    (100, 1, "LINEAR"), (100.5, 1, "LINEAR"), (100, 2, "LINEAR"), (90, 1, "LINEAR_EXACT"),
])  # fmt: skip
def test_narrow_windows_are_steps(header, center, width, function):
    image = replace(RAMP, window=(center, width, function))
    np.testing.assert_allclose(shown(header(image))[0], display(image), atol=1)


@pytest.mark.parametrize(("bits", "top", "count"), [
    (16, 4095, 4096), (16, 1000, 300), (12, 4095, 65536), (8, 255, 257), (8, 4095, 400), (14, 255, 256), (8, 100, 256),
])  # fmt: skip
def test_entries_of_a_voi_lut_are_scaled_by_what_they_hold(header, bits, top, count):
    image = replace(DEEP, voi=Lut(0, bits, ramp(count, top)))
    assert not fault(shown(header(image)), display(image))
    assert shown(header(image)).max() == 255 or count > 4080


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_a_first_value_below_0_may_be_written_unsigned(header, dicom, tmp_path, syntax):
    image = replace(DEEP, signed=True, voi=Lut(-2000, 12, ramp(4000, 4095)))
    written = header(image, syntax=syntax)
    written.VOILUTSequence[0].add_new("LUTDescriptor", "US", [4000, 65536 - 2000, 12])
    assert not fault(grayscale.read_gray(dicom.save(written, tmp_path / "image.dcm")), display(image))


def test_entries_as_numbers_are_those_as_words(header, dicom, tmp_path):
    for packed in (False, True):
        image = replace(DEEP, voi=Lut(0, 8, ramp(4000, 255)))
        written = header(image, packed)
        words = np.frombuffer(written.VOILUTSequence[0].LUTData, "<u2")
        written.VOILUTSequence[0].add_new("LUTData", "US", words.tolist())
        assert not fault(grayscale.read_gray(dicom.save(written, tmp_path / "image.dcm")), display(image))


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("change", [
    {"LUTDescriptor": [300, 0, 16]}, {"LUTDescriptor": [100, 0, 16]}, {"LUTDescriptor": [0, 0, 16]},
    {"LUTDescriptor": [256, 0, 0]}, {"LUTDescriptor": [256, 0, 40]}, {"LUTDescriptor": [256, 0]},
    {"LUTData": b""}, {"LUTData": bytes(600)}, {"LUTData": None}, {"LUTDescriptor": None},
])  # fmt: skip
def test_a_damaged_table_is_refused(header, name, change):
    damaged = header(DEEP)
    item = table(Lut(0, 16, ramp(256, 65535)), packed=False, big=False)
    for element, value in change.items():
        item.add_new(element, item[element].VR, value)
    setattr(damaged, name, Sequence([item]))
    assert shown(damaged) is None


@pytest.mark.parametrize("base", [RAMP, DEEP], ids=["8 bits", "12 bits"])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", ["1,0", "1.0.0", "NaN", "inf", "-inf", "1e400", "Secret^Name", "0x10", "--1", "1 0"])
def test_a_number_that_is_none_is_refused(header, dicom, tmp_path, base, name, text):
    elements = {"RescaleSlope": "1", "RescaleIntercept": "0", "WindowCenter": "99", "WindowWidth": "200"}
    path = dicom.save(header(base, **elements | {name: "7777777777"}), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes().replace(b"7777777777", text.ljust(10)[:10].encode()))
    with pytest.raises(ImageError, match=f"its {name} is no (finite )?number") as caught:
        grayscale.read_gray(path)
    assert text not in str(caught.value)


@pytest.mark.parametrize(("elements", "reason"), [
    ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "all its pixels become equal"),
    ({"RescaleSlope": "1", "RescaleIntercept": "1e30"}, "all its pixels become equal"),
    ({"RescaleSlope": "1e306"}, "no finite"), ({"RescaleSlope": ["1", "2"]}, "RescaleSlope has 2 values"),
    ({"WindowCenter": "1", "WindowWidth": "5", "VOILUTFunction": "CUBIC"}, "VOILUTFunction"),
    ({"PixelRepresentation": 2}, "PixelRepresentation"), ({"BitsStored": 0}, "0 of 16 bits"),
    ({"SamplesPerPixel": 0}, "0 samples"),
])  # fmt: skip
def test_a_picture_without_contrast_or_sense_is_refused(header, dicom, tmp_path, elements, reason):
    path = dicom.save(header(DEEP, **elements), tmp_path / "image.dcm")
    with pytest.raises(ImageError, match=reason):
        grayscale.read_gray(path)


def test_nothing_but_padding_is_refused(header):
    assert shown(header(replace(RAMP, padding=(0, 255)))) is None


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_of_signed_pixels_may_be_written_unsigned(dicom, tmp_path, value):
    pixels = np.array([[-2000, -1000, 0, 1000]], np.int16)
    written = dicom.dataset(pixels)
    written.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    assert grayscale.read_gray(dicom.save(written, tmp_path / "image.dcm")).tolist() == [[0, 0, 128, 255]]
