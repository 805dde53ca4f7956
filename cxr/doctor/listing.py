"""Do tables and files fit together?"""

from collections.abc import Iterator
from pathlib import Path

from cxr import user_tables
from cxr.doctor.findings import Finding, found
from cxr.doctor.material import Material


def check(material: Material) -> Iterator[Finding]:
    """Findings on the tables' dialect, on ids without files and files without rows."""
    layout, files, rows = material.layout, material.files, material.rows
    yield from found("no-images", [str(material.data)] if not files else [])
    yield from found("no-rows", [str(material.data)] if layout.rows_csv is None else [])
    if files and rows:
        yield from found("no-labelled-image", [str(layout.rows_csv)] if not material.labels else [])
    if layout.rows_csv:
        examples = [layout.rows_csv.name] if rows else []
        yield from found("csv-dialect", examples, dialect=dialect(_start(layout.rows_csv)))
        lost = [name for name in rows if name not in files]
        yield from found("rows-without-image", lost, len(rows), table=layout.rows_csv.name)
    if layout.sample_csv:
        lost = [name for name in material.samples if name not in files]
        yield from found("samples-without-image", lost, table=layout.sample_csv.name)
    yield from found("images-without-row", [name for name, split in material.splits.items() if split == "unlabelled"])
    yield from found("images-in-both", sorted(files.keys() & rows.keys() & set(material.samples)))
    yield from found("several-rows", [(name, f"{len(each)} rows") for name, each in rows.items() if len(each) > 1])
    yield from _namesakes(material)


def _start(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be opened."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4096)
    except OSError:
        return b""


def dialect(start: bytes) -> str:
    """How a mask table is written, in words, by its first bytes."""
    encoding = user_tables.encoding(start[: start.rfind(b"\n") + 1] or start)
    header, _, rest = start.decode(encoding, "replace").partition("\n")
    between = user_tables.separator(header)
    signs = {
        "a byte-order mark": start.startswith(tuple(user_tables.MARKS)), "UTF-16": encoding.startswith("utf-16"),
        "Windows-1252": encoding == "cp1252", "cells parted by semicolons": between == ";",
        "cells parted by tabs": between == "\t", "a blank before names": f"{between} " in header,
        "a blank before values": f"{between} " in rest.partition("\n")[0], "Windows line ends": header.endswith("\r"),
        "quoted cells": '"' in header,
    }  # fmt: skip
    return ", ".join(sign for sign, is_there in signs.items() if is_there) or "plain"


def _namesakes(material: Material) -> Iterator[Finding]:
    several = [name for name, files in material.namesakes.items() if len(files) > 1]
    differing = [name for name in several if material.differ(name)]
    for kind, names in (("same-name", differing), ("copied-files", sorted(set(several) - set(differing)))):
        paths = {name: [file.path for file in material.namesakes[name]] for name in names}
        yield from found(kind, [(name, " and ".join(each)) for name, each in paths.items()])
