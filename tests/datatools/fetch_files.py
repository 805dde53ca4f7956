"""Files to fetch, packed as a zip, and what lies in a folder afterwards."""

import io
import os
import zipfile
from pathlib import Path

FILES = {"siim/train/a.dcm": os.urandom(300_000), "siim/train-rle.csv": b"ImageId,EncodedPixels\na,1 2\nb,-1\n"}
SECRET = "s3cret"


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def lying(folder: Path) -> dict[str, bytes]:
    """Files below a folder that are not hidden."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")}
