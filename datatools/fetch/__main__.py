"""Bring the SIIM-ACR data into data/: only DICOM files and tables; existing files are never overwritten.

python -m datatools.fetch kaggle:<owner>/<dataset>                                        a dataset on Kaggle
python -m datatools.fetch kaggle:competitions/siim-acr-pneumothorax-segmentation          the competition's own files
python -m datatools.fetch https://<host>/<file>.zip                                       a URL of a zip, or of one file
python -m datatools.fetch FILE.zip | FOLDER [--link]                                      what lies on a disk
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
from cxr.files import read_json, write_json
from cxr.paths import ROOT, resolve_user_path
from datatools.fetch import counts, download, folder, kaggle_tool
from datatools.fetch.archive import unpack_archive
from datatools.fetch.data_folder import WORK_FOLDER, Item, compute_crc32, is_wanted, place_files


def main() -> None:
    """Command: fetch a source into the data folder."""
    parser = argparse.ArgumentParser(
        prog="python -m datatools.fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="kaggle:..., a URL, a zip file or a folder")
    parser.add_argument("--into", help="the data folder (default: DATA, else the project's data/)")
    parser.add_argument("--link", action="store_true", help="link the files of a folder instead of copying them")
    arguments = parser.parse_args()
    data_folder = resolve_user_path(arguments.into or os.environ.get("DATA") or str(ROOT / "data"))
    fetch_source(arguments.source, data_folder, arguments.link)


def fetch_source(source: str, data_folder: Path, should_link: bool = False) -> None:
    """Bring `source` into `data_folder`, one process at a time, and print what the folder then holds.

    source: kaggle:..., a URL, a zip file or a folder; should_link: link the files of a folder instead of copying them.
    Raises UsageError for an invalid source, DataError for a hostile or damaged one.
    """
    bring_files = _choose_transfer(source, should_link)
    try:
        (data_folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
        with runs.lock_folder(data_folder / WORK_FOLDER):
            bring_files(data_folder)
    except OSError as error:
        raise UsageError(f"{error.filename or data_folder}: {error.strerror}; run the same again to go on") from None
    counts.report_counts(data_folder)


def _choose_transfer(source: str, should_link: bool) -> Callable[[Path], object]:
    """How to bring a source, as a function of the data folder; simple mistakes are refused before any writing."""
    path = resolve_user_path(source) if "://" not in source else None
    if should_link and not (path and path.is_dir()):
        raise UsageError("--link is for a folder: an archive has to be unpacked")
    if source.startswith("kaggle:"):
        kaggle_tool.build_command(source.removeprefix("kaggle:"))
        return partial(_fetch_from_kaggle, source.removeprefix("kaggle:"))
    if path is None:
        return partial(_fetch_from_url, download.resolve_direct_url(source))
    if path.is_dir():
        return lambda data_folder: folder.bring_folder(path, data_folder, should_link)
    if not path.is_file():
        raise UsageError(f"{source} is not there; expected kaggle:<owner>/<dataset>, a URL, a zip or a folder")
    return lambda data_folder: _place_file(path, path.name, data_folder)


def _fetch_from_kaggle(source: str, data_folder: Path) -> None:
    work_folder = data_folder / WORK_FOLDER / f"kaggle-{source.replace('/', '-')}"
    _fetch_once(source, data_folder, work_folder, lambda: kaggle_tool.download_from_kaggle(source, work_folder))


def _fetch_from_url(url: str, data_folder: Path) -> None:
    work_folder = data_folder / WORK_FOLDER / f"url-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    name = download.derive_file_name(url)
    _fetch_once(name, data_folder, work_folder, lambda: [download.download_file(url, work_folder)])


def _fetch_once(name: str, data_folder: Path, work_folder: Path, download_files: Callable[[], list[Path]]) -> None:
    """Download, unpack and delete the archive; skipped while every file from it is still there, unless FORCE=1."""
    note_path = work_folder.with_name(f"{work_folder.name}.json")
    files = (read_json(note_path) or {}).get("files", {})
    are_present = all(_is_present(data_folder / path, size) for path, size in files.items())
    if files and are_present and os.environ.get("FORCE") != "1":
        print(f"{name}: up to date, {len(files)} files (FORCE=1 fetches again)")
        return
    items = [item for file in download_files() for item in _place_download(file, work_folder, data_folder)]
    write_json(note_path, {"files": {item.path: item.size for item in items}})
    shutil.rmtree(work_folder)


def _is_present(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _place_download(file: Path, work_folder: Path, data_folder: Path) -> list[Item]:
    """Place the files of a download; a damaged one is removed, so that the next run fetches it again."""
    try:
        return _place_file(file, file.name, data_folder)
    except DataError:
        shutil.rmtree(work_folder)
        raise


def _place_file(file: Path, name: str, data_folder: Path) -> list[Item]:
    """Place the files of a zip, or one DICOM file or table, into the data folder."""
    if zipfile.is_zipfile(file) or name.lower().endswith(".zip"):
        return unpack_archive(file, data_folder, name)
    if not is_wanted(name):
        raise DataError(f"{name} is no zip archive, no .dcm and no .csv")
    item = Item(name, file.stat().st_size, partial(compute_crc32, file), partial(open, file, "rb"))
    place_files([item], data_folder, name)
    return [item]


if __name__ == "__main__":
    run_main(main)
