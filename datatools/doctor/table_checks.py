"""Do the tables and the image files fit together?"""

from collections.abc import Iterator
from pathlib import Path

from cxr.datasets import user_tables
from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding


def check_tables(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on the format of the mask table, on ids without files and on files without rows."""
    layout, files, rows = dataset.layout, dataset.first_files, dataset.rows
    yield from report_finding("no-images", [str(dataset.data)] if not files else [])
    yield from report_finding("no-rows", [str(dataset.data)] if layout.rows_csv is None else [])
    if files and rows:
        yield from report_finding("no-labelled-image", [str(layout.rows_csv)] if not dataset.labels else [])
    if layout.rows_csv:
        examples = [layout.rows_csv.name] if rows else []
        yield from report_finding("csv-dialect", examples, dialect=describe_dialect(_read_start(layout.rows_csv)))
        missing_ids = [name for name in rows if name not in files]
        yield from report_finding("rows-without-image", missing_ids, len(rows), table=layout.rows_csv.name)
    if layout.sample_csv:
        missing_ids = [name for name in dataset.samples if name not in files]
        yield from report_finding("samples-without-image", missing_ids, table=layout.sample_csv.name)
    yield from report_finding(
        "images-without-row", [name for name, split in dataset.splits.items() if split == "unlabelled"]
    )
    yield from report_finding("images-in-both", sorted(files.keys() & rows.keys() & set(dataset.samples)))
    yield from report_finding(
        "several-rows", [(name, f"{len(image_rows)} rows") for name, image_rows in rows.items() if len(image_rows) > 1]
    )
    yield from _check_same_names(dataset)


def _read_start(path: Path) -> bytes:
    """The first bytes of a file; empty where it cannot be opened."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4096)
    except OSError:
        return b""


def describe_dialect(start: bytes) -> str:
    """In words, how a mask table is written (encoding, separator, quotes), from the first bytes of the file."""
    encoding = user_tables.detect_encoding(start[: start.rfind(b"\n") + 1] or start)
    header, _, body = start.decode(encoding, "replace").partition("\n")
    separator = user_tables.detect_separator(header)
    signs = {
        "a byte-order mark": start.startswith(tuple(user_tables.BYTE_ORDER_MARKS)),
        "UTF-16": encoding.startswith("utf-16"), "Windows-1252": encoding == "cp1252",
        "cells parted by semicolons": separator == ";", "cells parted by tabs": separator == "\t",
        "a blank before names": f"{separator} " in header,
        "a blank before values": f"{separator} " in body.partition("\n")[0], "Windows line ends": header.endswith("\r"),
        "quoted cells": '"' in header,
    }  # fmt: skip
    return ", ".join(sign for sign, is_there in signs.items() if is_there) or "plain"


def _check_same_names(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on image ids with several files, different or equal ones."""
    repeated_names = [name for name, files in dataset.files_by_id.items() if len(files) > 1]
    differing_names = [name for name in repeated_names if dataset.has_differing_files(name)]
    equal_names = sorted(set(repeated_names) - set(differing_names))
    yield from report_finding("same-name", [_list_files(dataset, name) for name in differing_names])
    yield from report_finding("copied-files", [_list_files(dataset, name) for name in equal_names])


def _list_files(dataset: DatasetScan, name: str) -> tuple[str, str]:
    return name, " and ".join(file.path for file in dataset.files_by_id[name])
