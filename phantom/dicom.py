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

from phantom.plan import Item, number, uid
from phantom.render import Phantom

DETECTOR_MM = 430  # side of a large imaging plate


def write(path: Path, phantom: Phantom, item: Item, seed: int, quality: int) -> None:
    """Writes one DICOM file; the same phantom gives the same bytes."""
    data = header(phantom, item, seed)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    store(data, phantom.image, item.storage, quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def header(phantom: Phantom, item: Item, seed: int) -> Dataset:
    """Everything but the pixels. PatientID is drawn for each image: it does not tell patients apart, as in SIIM-ACR."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = item.image_id if item.split == "train" else uid(seed, "instance", item.image_id)
    data.StudyInstanceUID, data.SeriesInstanceUID = folders(item, seed)
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "19010101", "000000.00", "", ""
    data.Modality, data.ConversionType, data.BodyPartExamined = "CR", "WSD", "CHEST"
    data.ReferringPhysicianName, data.PatientBirthDate = "", ""
    name = f"{number(seed, 'name', item.image_id):032x}"
    data.PatientName = data.PatientID = f"{name[:8]}-{name[8:12]}"
    data.PatientSex, data.PatientAge = phantom.sex, f"{phantom.age:03d}Y"
    data.ViewPosition, data.SeriesDescription = phantom.view, f"view: {phantom.view}"
    data.SeriesNumber = data.InstanceNumber = 1
    data.PatientOrientation = ""
    data.Rows, data.Columns = phantom.image.shape
    data.ImagerPixelSpacing = [round(DETECTOR_MM / side, 4) for side in phantom.image.shape]
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.ImageComments = "computed phantom, not a patient"
    return data


def folders(item: Item, seed: int) -> tuple[str, str]:
    """Study and series: the folders that the file lies in."""
    return uid(seed, "study", item.image_id), uid(seed, "series", item.image_id)


def store(data: Dataset, image: np.ndarray, storage: str, quality: int) -> None:
    """Puts the pixels (uint8 [h, w], air dark) into the data set."""
    data.PhotometricInterpretation = "MONOCHROME1" if storage == "inverted" else "MONOCHROME2"
    bits = 12 if storage == "twelve_bit" else 8
    data.BitsAllocated, data.BitsStored, data.HighBit = (16 if bits > 8 else 8), bits, bits - 1
    if storage == "twelve_bit":
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.WindowCenter, data.WindowWidth = 2048, 4096
        data.PixelData = np.round(image * (4095 / 255)).astype("<u2").tobytes()
        return
    lossless = storage == "jpeg2000"
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless if lossless else JPEGBaseline8Bit
    data.PixelData = encapsulate(
        [jpeg2000(image) if lossless else jpeg(255 - image if storage == "inverted" else image, quality)]
    )
    if not lossless:
        data.LossyImageCompression, data.LossyImageCompressionMethod = "01", "ISO_10918_1"


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """JPEG Baseline of a gray image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def jpeg2000(image: np.ndarray) -> bytes:
    """A lossless JPEG 2000 code stream, without the JP2 box that DICOM forbids."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    return file.getvalue()
