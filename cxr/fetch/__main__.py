"""Bring the SIIM-ACR data into data/: only DICOM files and tables, nothing over what is there.

python -m cxr.fetch kaggle:<owner>/<dataset>                                        a dataset on Kaggle
python -m cxr.fetch kaggle:competitions/siim-acr-pneumothorax-segmentation          the competition's own files
python -m cxr.fetch https://<host>/<file>.zip                                       a URL of a zip, or of one file
python -m cxr.fetch FILE.zip | FOLDER [--link]                                      what lies on a disk
"""

import argparse
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cxr import runs
from cxr.errors import DataError, UsageError, run_main
from cxr.fetch import counts, download, folder, kaggle_tool
from cxr.fetch.archive import unpack
from cxr.fetch.place import WORK, Item, crc32, is_wanted, place
from cxr.files import read_json, write_json
from cxr.paths import ROOT, as_meant


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cxr.fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="kaggle:..., a URL, a zip file or a folder")
    parser.add_argument("--into", help="the data folder (default: DATA, else the project's data/)")
    parser.add_argument("--link", action="store_true", help="link the files of a folder instead of copying them")
    asked = parser.parse_args()
    fetch(asked.source, as_meant(asked.into or os.environ.get("DATA") or str(ROOT / "data")), asked.link)


def fetch(source: str, into: Path, link: bool = False) -> None:
    """Bring `source` into `into`, one process at a time, and tell what is there.

    Raises UsageError for a source that is none, DataError for a hostile or damaged one.
    """
    bring = _way(source, link)
    try:
        (into / WORK).mkdir(parents=True, exist_ok=True)
        with runs.locked(into / WORK):
            bring(into)
    except OSError as error:
        raise UsageError(f"{error.filename or into}: {error.strerror}; run the same again to go on") from None
    counts.report(into)


def _way(source: str, link: bool) -> Callable[[Path], object]:
    """How to bring a source, as a function of the data folder; cheap mistakes are found before anything is written."""
    path = as_meant(source) if "://" not in source else None
    if link and not (path and path.is_dir()):
        raise UsageError("--link is for a folder: an archive has to be unpacked")
    if source.startswith("kaggle:"):
        kaggle_tool.command(source.removeprefix("kaggle:"))
        return partial(_from_kaggle, source.removeprefix("kaggle:"))
    if path is None:
        return partial(_from_url, download.direct(source))
    if path.is_dir():
        return lambda into: folder.bring(path, into, link)
    if not path.is_file():
        raise UsageError(f"{source} is not there; expected kaggle:<owner>/<dataset>, a URL, a zip or a folder")
    return lambda into: _take(path, path.name, into)


def _from_kaggle(source: str, into: Path) -> None:
    place_of = into / WORK / f"kaggle-{source.replace('/', '-')}"
    _once(source, into, place_of, lambda: kaggle_tool.download(source, place_of))


def _from_url(url: str, into: Path) -> None:
    place_of = into / WORK / f"url-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    _once(download.name_of(url), into, place_of, lambda: [download.download(url, place_of)])


def _once(name: str, into: Path, place_of: Path, bring: Callable[[], list[Path]]) -> None:
    """Download, unpack, forget the archive; not again while all that came of it is there (FORCE=1: again)."""
    note = place_of.with_name(f"{place_of.name}.json")
    files = (read_json(note) or {}).get("files", {})
    if files and os.environ.get("FORCE") != "1" and all(_is_there(into / path, size) for path, size in files.items()):
        print(f"{name}: up to date, {len(files)} files (FORCE=1 fetches again)")
        return
    items = [item for file in bring() for item in _taken(file, place_of, into)]
    write_json(note, {"files": {item.path: item.size for item in items}})
    shutil.rmtree(place_of)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _taken(file: Path, place_of: Path, into: Path) -> list[Item]:
    """The files of a download; where it is damaged it is removed, so that the next run fetches it again."""
    try:
        return _take(file, file.name, into)
    except DataError:
        shutil.rmtree(place_of)
        raise


def _take(file: Path, name: str, into: Path) -> list[Item]:
    """A zip, or one DICOM file or table, into the data folder."""
    if zipfile.is_zipfile(file) or name.lower().endswith(".zip"):
        return unpack(file, into, name)
    if not is_wanted(name):
        raise DataError(f"{name} is no zip archive, no .dcm and no .csv")
    item = Item(name, file.stat().st_size, partial(crc32, file), partial(open, file, "rb"))
    place([item], into, name)
    return [item]


if __name__ == "__main__":
    run_main(main)
