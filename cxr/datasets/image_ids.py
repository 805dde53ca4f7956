"""Image ids: which image a name means, whoever wrote it."""

import re
import unicodedata
from collections.abc import Collection, Iterator
from urllib.parse import unquote

# All at the end go, as some tools write a.dcm.png. No other: ids are often UIDs, whose dots are no endings.
ENDINGS = re.compile(
    r"(?:\s*\.(?:dcm|dicom|ima|png|jpe?g|jp2|tiff?|bmp|gif|webp|npy|npz|nii(?:\.gz)?))+\s*$", re.IGNORECASE
)
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's names of uploaded files: 1b2c3d4e-name.png
AUGMENTATION_SUFFIX = re.compile(
    r"_(?:dcm|png|jpe?g|bmp|tiff?)\.rf\.[0-9a-z]+$", re.IGNORECASE
)  # Roboflow's: name_png.rf.<hash>


def parse_image_id(name: str) -> str:
    """The id of an image file, or of a cell that names one: without folders (of either kind) and image endings."""
    return ENDINGS.sub("", unicodedata.normalize("NFC", re.split(r"[/\\]", name.strip())[-1].strip()))


def match_image_id(name: str, image_ids: Collection[str]) -> str:
    """The one of `image_ids` that a name of an annotation tool means; its plain id where it means none."""
    return next((spelling for spelling in _list_spellings(name) if spelling in image_ids), parse_image_id(name))


def _list_spellings(name: str) -> Iterator[str]:
    """The name as it is, URL-decoded, without a URL's query or from it (?d=folder/name.png), and without additions."""
    decoded = unquote(name)
    path, _, query = decoded.partition("?")
    for text in dict.fromkeys((name, decoded, path, query.removeprefix("d="))):
        plain_id = parse_image_id(text)
        yield from (plain_id, UPLOAD_PREFIX.sub("", plain_id), AUGMENTATION_SUFFIX.sub("", plain_id))
