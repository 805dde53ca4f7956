"""From DICOM to gray: windows against the standard's own formulas, every syntax against the plain one."""

import cv2
import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cxr.imaging import grayscale
from cxr.imaging.dicom import ImageError
from tests.cxr.imaging.reference_display import windowed


def smooth(height: int = 48, width: int = 64, top: int = 4095, dtype=np.uint16) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    wave = np.sin(x / 9) + np.cos(y / 7) + (x + y) / 40
    return ((wave - wave.min()) / np.ptp(wave) * top).astype(dtype)


def gray(dicom, tmp_path, pixels, **elements) -> np.ndarray:
    return grayscale.read_gray(dicom.save(dicom.dataset(pixels, **elements), tmp_path / "image.dcm"))


def table(values: list[int], first: int, bits: int, words: str = "<u2") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(values), first, bits])
    item.add_new("LUTData", "OW", np.array(values, words).tobytes())
    return item


# --- gray scale --------------------------------------------------------------------------------


def test_eight_bits_stay_as_stored(dicom, tmp_path):
    pixels = smooth(top=200, dtype=np.uint8) + 20
    np.testing.assert_array_equal(gray(dicom, tmp_path, pixels), pixels)


def test_twelve_bits_without_a_window_go_from_min_to_max(dicom, tmp_path):
    pixels = np.array([[100, 200], [300, 500]], np.uint16)
    assert gray(dicom, tmp_path, pixels, BitsStored=12, HighBit=11).tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1500.5, 700), ([900, 5], [1000, 9]), (2000, 2)])
def test_windows_follow_the_standard(dicom, tmp_path, function, center, width):
    pixels = smooth()
    found = gray(dicom, tmp_path, pixels, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    c, w = (v[0] if isinstance(v, list) else v for v in (center, width))
    expected = np.vectorize(lambda x: windowed(float(x), c, w, function), otypes=[float])(pixels)
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_rescale_comes_before_the_window(dicom, tmp_path):
    pixels = np.array([[0, 1000, 1100, 3000]], np.uint16)
    elements = {"RescaleSlope": 2, "RescaleIntercept": -2000, "WindowCenter": 100, "WindowWidth": 400}
    found = gray(dicom, tmp_path, pixels, VOILUTFunction="LINEAR_EXACT", **elements)
    assert found.tolist() == [[0, 64, 191, 255]]  # -2000, 0, 200, 4000 in a window from -100 to 300


def test_signed_values(dicom, tmp_path):
    pixels = np.array([[-1000, -500, 0, 1000]], np.int16)
    assert gray(dicom, tmp_path, pixels, BitsStored=12, HighBit=11).tolist() == [[0, 64, 128, 255]]


def test_monochrome1_is_inverted_after_the_window(dicom, tmp_path):
    pixels, window = smooth(), {"WindowCenter": 1500, "WindowWidth": 1200}
    plain = gray(dicom, tmp_path, pixels, **window)
    inverted = gray(dicom, tmp_path, pixels, PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(inverted.astype(int), 255 - plain.astype(int), atol=1)


@pytest.mark.parametrize(("photometric", "shape", "inverted"), [
    ("MONOCHROME2", None, False), ("MONOCHROME2", "IDENTITY", False), ("MONOCHROME1", None, True),
    ("MONOCHROME1", "INVERSE", True), ("MONOCHROME2", "INVERSE", True),
])  # fmt: skip
def test_inversion_happens_once(dicom, tmp_path, photometric, shape, inverted):
    pixels = smooth(top=255, dtype=np.uint8)
    found = gray(dicom, tmp_path, pixels, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    np.testing.assert_array_equal(found, 255 - pixels if inverted else pixels)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_modality_lut(dicom, tmp_path, syntax):
    pixels = np.array([[9, 10, 11, 13, 99]], np.uint16)
    sequence = Sequence([table([500, 400, 300, 100], first=10, bits=16)])
    found = gray(dicom, tmp_path, pixels, syntax=syntax, ModalityLUTSequence=sequence)
    assert found.tolist() == [[255, 255, 191, 0, 0]]  # 500, 500, 400, 100, 100 from min to max


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_voi_lut_goes_before_a_window(dicom, tmp_path, syntax):
    pixels = np.array([[0, 100, 101, 102, 4000]], np.uint16)
    sequence = Sequence([table([0, 255, 1023], first=100, bits=10), table([7, 7], first=0, bits=10)])
    found = gray(dicom, tmp_path, pixels, syntax=syntax, VOILUTSequence=sequence, WindowCenter=5, WindowWidth=5)
    assert found.tolist() == [[0, 0, 64, 255, 255]]


def test_voi_lut_of_signed_values(dicom, tmp_path):
    pixels = np.array([[-300, -200, -199, 50]], np.int16)
    sequence = Sequence([table([0, 128, 255], first=-200, bits=8)])
    assert gray(dicom, tmp_path, pixels, VOILUTSequence=sequence).tolist() == [[0, 0, 128, 255]]


def test_padding_is_dark_and_out_of_the_scale(dicom, tmp_path):
    pixels = np.array([[0, 1000, 1500, 2000]], np.uint16)
    for photometric, expected in (("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [0, 255, 128, 0])):
        found = gray(dicom, tmp_path, pixels, PixelPaddingValue=0, PhotometricInterpretation=photometric)
        np.testing.assert_allclose(found[0].astype(int), expected, atol=1)


def test_padding_range(dicom, tmp_path):
    pixels = np.array([[-2000, -1900, 0, 100]], np.int16)
    found = gray(dicom, tmp_path, pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1900)
    assert found.tolist() == [[0, 0, 0, 255]]


def test_overlays_in_unused_bits_are_no_pixels(dicom, tmp_path):
    pixels = smooth()
    with_overlay = pixels | (np.arange(64) % 2 << 13).astype(np.uint16)
    plain, marked = (gray(dicom, tmp_path, p, BitsStored=12, HighBit=11) for p in (pixels, with_overlay))
    np.testing.assert_array_equal(plain, marked)


def test_high_bit_above_the_stored_bits(dicom, tmp_path):
    pixels = smooth()
    plain = gray(dicom, tmp_path, pixels, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(gray(dicom, tmp_path, pixels << 4, BitsStored=12, HighBit=15), plain)


@pytest.mark.parametrize(("center", "width"), [(90000, 10), (500, 0), ("", "")])
def test_a_window_that_shows_nothing_is_passed_over(dicom, tmp_path, center, width):
    pixels = smooth()
    np.testing.assert_array_equal(
        gray(dicom, tmp_path, pixels, WindowCenter=center, WindowWidth=width), gray(dicom, tmp_path, pixels)
    )


def test_a_constant_image_is_no_error(dicom, tmp_path):
    assert np.ptp(gray(dicom, tmp_path, np.full((4, 4), 700, np.uint16))) == 0


# --- transfer syntaxes -------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless,
])  # fmt: skip
@pytest.mark.parametrize(("top", "dtype"), [(4095, np.uint16), (255, np.uint8), (1000, np.int16)])
def test_lossless_syntaxes_give_the_same_picture(dicom, tmp_path, syntax, top, dtype):
    pixels = smooth(top=top, dtype=dtype)
    coded = syntax in (uid.RLELossless, uid.JPEG2000Lossless)
    header = dicom.dataset(pixels, syntax=uid.ExplicitVRLittleEndian if coded else syntax)
    if coded:
        header.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    found = grayscale.read_gray(dicom.save(header, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(found, gray(dicom, tmp_path, pixels))


def test_a_signed_jpeg_2000_whose_header_says_unsigned_is_the_same_picture(dicom, tmp_path):
    pixels = smooth(top=1000, dtype=np.int16) - np.int16(500)
    header = dicom.dataset(pixels)
    header.compress(uid.JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    header.PixelRepresentation = 0
    found = grayscale.read_gray(dicom.save(header, tmp_path / "image.dcm"))
    np.testing.assert_array_equal(found, gray(dicom, tmp_path, pixels))


@pytest.mark.parametrize("elements", [
    {"PhotometricInterpretation": "monochrome2"}, {"NumberOfFrames": "  "}, {"VOILUTFunction": "linear"},
    {"WindowCenter": "2048\\", "WindowWidth": "4096\\"},
])  # fmt: skip
def test_what_writers_do_to_headers_changes_no_picture(dicom, tmp_path, elements):
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    expected = gray(dicom, tmp_path, smooth(), **window)
    np.testing.assert_array_equal(gray(dicom, tmp_path, smooth(), **window | elements), expected)


def test_jpeg_2000_lossy(dicom, tmp_path):
    pixels = smooth(256, 256)
    header = dicom.dataset(pixels, BitsStored=12, HighBit=11)
    header.compress(uid.JPEG2000, encoding_plugin="pylibjpeg", j2k_cr=[10])
    found = grayscale.read_gray(dicom.save(header, tmp_path / "lossy.dcm"))
    assert np.abs(found.astype(int) - gray(dicom, tmp_path, pixels, BitsStored=12, HighBit=11)).mean() < 1.5


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_jpeg_of_8_bits(dicom, tmp_path, syntax, photometric):
    pixels = smooth(top=255, dtype=np.uint8)
    header = dicom.as_jpeg(dicom.dataset(pixels, PhotometricInterpretation=photometric), quality=95)
    header.file_meta.TransferSyntaxUID = syntax
    found = grayscale.read_gray(dicom.save(header, tmp_path / "image.dcm"))
    expected = 255 - pixels if photometric == "MONOCHROME1" else pixels
    assert np.abs(found.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize(("height", "width", "least", "shape"), [
    (256, 256, 128, (128, 128)), (256, 128, 64, (64, 32)), (256, 256, 100, (128, 128)), (256, 256, 129, (256, 256)),
    (258, 256, 64, (129, 128)), (255, 255, 64, (255, 255)), (256, 256, 16, (32, 32)),
])  # fmt: skip
def test_decoding_smaller_is_an_area_average(dicom, tmp_path, height, width, least, shape):
    noise = np.random.default_rng(0).normal(0, 6, (height, width))
    pixels = np.clip(smooth(height, width, 200) + noise + 20, 0, 255).astype(np.uint8)
    path = dicom.save(dicom.as_jpeg(dicom.dataset(pixels)), tmp_path / "image.dcm")
    found, whole = grayscale.read_gray(path, min_longer_side=least), grayscale.read_gray(path)
    assert found.shape == shape
    expected = cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_a_window_is_applied_before_shrinking(dicom, tmp_path):
    header = dicom.dataset(smooth(64, 64, 255, np.uint8), WindowCenter=128, WindowWidth=20)
    path = dicom.save(dicom.as_jpeg(header), tmp_path / "image.dcm")
    assert grayscale.read_gray(path, min_longer_side=16).shape == (64, 64)


def test_no_file_meta_header(dicom, tmp_path):
    pixels = smooth()
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian):
        path = tmp_path / "bare.dcm"
        dicom.save(dicom.dataset(pixels, syntax=syntax), path)
        content = path.read_bytes()
        at = 128 + 4 + 12 + int.from_bytes(content[140:144], "little")  # past the group of the meta header
        path.write_bytes(content[at:])
        np.testing.assert_array_equal(grayscale.read_gray(path), gray(dicom, tmp_path, pixels))


# --- refusals ----------------------------------------------------------------------------------


def refused(path, reader=grayscale.read_radiograph) -> str:
    with pytest.raises(ImageError) as caught:
        reader(path)
    reason = str(caught.value)
    assert reason
    assert "\n" not in reason
    assert "ecret" not in reason
    return reason


@pytest.mark.parametrize(("elements", "reason"), [
    ({"Modality": "CT"}, "not a radiograph: modality CT"), ({"Modality": "MR"}, "modality MR"),
    ({"Modality": "OT"}, "modality OT"), ({"NumberOfFrames": 2}, "holds 2 frames"),
    ({"SamplesPerPixel": 3}, "colour"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"), ({"Rows": None}, "lacks Rows"),
    ({"PhotometricInterpretation": None}, "lacks PhotometricInterpretation"), ({"Rows": 0}, "lacks Rows"),
    ({"BitsAllocated": 32, "BitsStored": 32}, "32 of 32 bits"), ({"Rows": 20000, "Columns": 20000}, "megapixels"),
    ({"Rows": 100}, "cut short"),
])  # fmt: skip
def test_what_is_refused_says_why(dicom, tmp_path, elements, reason):
    path = dicom.save(dicom.dataset(smooth()), tmp_path / "image.dcm")
    header = dicom.dataset(smooth(), **elements)
    header.save_as(path, enforce_file_format=True)
    assert reason in refused(path)


def test_a_damaged_header(dicom, tmp_path):
    path = dicom.save(dicom.dataset(smooth(), NumberOfFrames=17), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x0017", b"IS\x02\x001A"))
    assert "its header is damaged" in refused(path)


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "", None])
def test_radiographs_and_unnamed_modalities_pass(dicom, tmp_path, modality):
    found, header = grayscale.read_radiograph(
        dicom.save(dicom.dataset(smooth(), Modality=modality), tmp_path / "image.dcm")
    )
    assert found.shape == (48, 64)
    assert "PatientName" not in header
    assert "PatientID" not in header


@pytest.mark.parametrize(("syntax", "name"), [
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"), ("1.2.840.10008.1.2.4.70", "JPEG Lossless"),
    ("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.3.4.5", "1.2.3.4.5"),
])  # fmt: skip
def test_other_syntaxes_are_refused_by_name(dicom, tmp_path, syntax, name):
    header = dicom.as_jpeg(dicom.dataset(smooth(top=255, dtype=np.uint8)))
    header.file_meta.TransferSyntaxUID = uid.UID(syntax)
    reason = refused(dicom.save(header, tmp_path / "image.dcm"))
    assert name in reason
    assert f"({syntax}) is not supported; convert with" in reason


def test_jpeg_extended_of_12_bits_is_refused_by_name(dicom, tmp_path):
    header = dicom.as_jpeg(dicom.dataset(smooth(top=255, dtype=np.uint8)))
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    assert "JPEG Extended" in refused(dicom.save(header, tmp_path / "image.dcm"))


@pytest.mark.parametrize("cut", [0, 100, 300, 700, 2000])
def test_truncated_files(dicom, tmp_path, cut):
    path = dicom.save(dicom.as_jpeg(dicom.dataset(smooth(256, 256, 255, np.uint8))), tmp_path / "image.dcm")
    path.write_bytes(path.read_bytes()[:cut])
    refused(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(200), b"\x08\x00" * 500, bytes(128) + b"DICM" + b"x" * 99])
def test_what_is_no_dicom(tmp_path, content):
    path = tmp_path / "image.dcm"
    path.write_bytes(content)
    refused(path)


def test_a_frame_of_another_size_than_the_header_says(dicom, tmp_path):
    header = dicom.as_jpeg(dicom.dataset(smooth(top=255, dtype=np.uint8)))
    header.Rows = 200
    assert "but the header says" in refused(dicom.save(header, tmp_path / "image.dcm"))


def test_a_missing_file(tmp_path):
    refused(tmp_path / "nothing.dcm")


# --- real files --------------------------------------------------------------------------------


def test_real_awkward_files_are_shown_or_refused(real):
    shown = 0
    for path in sorted((real / "dicom_hard").glob("*.dcm")):
        try:
            picture = grayscale.read_gray(path)
        except ImageError:
            refused(path, grayscale.read_gray)
        else:
            assert np.ptp(picture) > 100, path.name
            shown += 1
    assert shown >= 12


def test_real_copies_in_other_syntaxes_are_the_same_picture(real):
    copies = [grayscale.read_gray(path) for path in sorted((real / "dicom_hard").glob("MR_small_[!j]*.dcm"))]
    assert len(copies) == 4
    for copy in copies:
        np.testing.assert_array_equal(copy, copies[0])


def test_real_radiographs_decode_smaller_as_an_area_average(real):
    for path in sorted((real / "dicom-images-test").rglob("*.dcm"))[:5]:
        whole = cv2.resize(grayscale.read_gray(path), (512, 512), interpolation=cv2.INTER_AREA)
        assert np.abs(grayscale.read_gray(path, min_longer_side=512).astype(int) - whole).mean() < 0.5
