"""A phantom as a DICOM file, in the ways that real data is stored."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

from phantom.plan import PlannedImage, derive_number, derive_uid
from phantom.render import Phantom

DETECTOR_MM = 430  # side of the usual chest detector, 17 x 17 inches or 43 x 43 cm


def write_dicom(path: Path, phantom: Phantom, item: PlannedImage, seed: int, quality: int) -> None:
    """Write one DICOM file; the same phantom gives the same bytes.

    path: of the file; its folder is made
    phantom: pixels, age, sex and view
    item: names the image and the way it is stored
    seed: of the data set, from which the UIDs follow
    quality: of JPEG, 1..100
    """
    dataset = build_header(phantom, item, seed)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    set_pixel_data(dataset, phantom.image, item.storage, quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def build_header(phantom: Phantom, item: PlannedImage, seed: int) -> Dataset:
    """Everything but the pixels. Every image has a PatientID of its own, as in SIIM-ACR: it does not name patients."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = item.image_id if item.split == "train" else derive_uid(seed, "instance", item.image_id)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = derive_study_uids(item, seed)
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "19010101", "000000.00", "", ""
    dataset.Modality, dataset.ConversionType, dataset.BodyPartExamined = "CR", "WSD", "CHEST"
    dataset.ReferringPhysicianName, dataset.PatientBirthDate = "", ""
    name_digits = f"{derive_number(seed, 'name', item.image_id):032x}"
    dataset.PatientName = dataset.PatientID = f"{name_digits[:8]}-{name_digits[8:12]}"
    dataset.PatientSex, dataset.PatientAge = phantom.sex, f"{phantom.age:03d}Y"
    dataset.ViewPosition, dataset.SeriesDescription = phantom.view_position, f"view: {phantom.view_position}"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.PatientOrientation = ""
    dataset.Rows, dataset.Columns = phantom.image.shape
    dataset.ImagerPixelSpacing = [round(DETECTOR_MM / side, 4) for side in phantom.image.shape]
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.ImageComments = "computed phantom, not a patient"
    return dataset


def derive_study_uids(item: PlannedImage, seed: int) -> tuple[str, str]:
    """UIDs of study and series, which are also the folders that the file lies in."""
    return derive_uid(seed, "study", item.image_id), derive_uid(seed, "series", item.image_id)


def set_pixel_data(dataset: Dataset, image: np.ndarray, storage: str, quality: int) -> None:
    """Put the pixels and all that describes them into the data set.

    dataset: changed in place, its file_meta too
    image: uint8 [height, width], air dark
    storage: jpeg, inverted (MONOCHROME1), twelve_bit or jpeg2000
    quality: of JPEG, 1..100
    """
    dataset.PhotometricInterpretation = "MONOCHROME1" if storage == "inverted" else "MONOCHROME2"
    bits = 12 if storage == "twelve_bit" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (16 if bits > 8 else 8), bits, bits - 1
    if storage == "twelve_bit":
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
        dataset.PixelData = np.round(image * (4095 / 255)).astype("<u2").tobytes()
        return
    if storage == "jpeg2000":
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([encode_jpeg2000(image)])
        return
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([encode_jpeg(255 - image if storage == "inverted" else image, quality)])
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """JPEG Baseline of a gray image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_jpeg2000(image: np.ndarray) -> bytes:
    """A lossless JPEG 2000 code stream, without the JP2 box that DICOM forbids."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    return buffer.getvalue()
