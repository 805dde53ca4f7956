"""Kinds of damage to a DICOM file's bytes, random but seeded; for bench.damaged_dicoms and the tests, no command.

Each takes a file and a random generator, and returns a damaged file, or bytes where its parts cannot be told apart.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from pydicom import uid

from bench.small_dicoms import NAME, SIDE, DicomFile, build_small_dicoms

BAD_NUMBERS = (b"1,5", b"NaN", b"inf", b"1.0.0", b"1e400", b"", b"1\\2", b"-1e-320", b"9" * 400, NAME.encode())
TAGS = [0x00080060, 0x00101010, 0x00185101, 0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100, 0x00280101,
        0x00280102, 0x00280103, 0x00280120, 0x00281050, 0x00281051, 0x00281053, 0x00283010, 0x7FE00010]  # fmt: skip
Random = np.random.Generator
Damage = Callable[[DicomFile, Random], DicomFile | bytes]


def flip_bits(file: DicomFile, rng: Random) -> bytes:
    """Flip one to 64 bits anywhere."""
    content = bytearray(file.file_bytes)
    for offset in rng.integers(0, len(content), rng.integers(1, 65)):
        content[offset] ^= 1 << rng.integers(8)
    return bytes(content)


def flip_header_bits(file: DicomFile, rng: Random) -> DicomFile:
    """Flip one to 16 bits before the pixels."""
    body = bytearray(file.body)
    for offset in rng.integers(0, file.find_element(0x7FE00010) + 12, rng.integers(1, 17)):
        body[offset] ^= 1 << rng.integers(8)
    return replace(file, body=bytes(body))


def truncate_file(file: DicomFile, rng: Random) -> bytes:
    """End the file at a random byte."""
    content = file.file_bytes
    return content[: rng.integers(len(content))]


def overwrite_block(file: DicomFile, rng: Random) -> bytes:
    """Overwrite a block with zeros, ones or noise, as a failing disk does."""
    content = bytearray(file.file_bytes)
    start, length = rng.integers(len(content)), int(rng.integers(1, 4096))
    block = [bytes(length), b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    content[start : start + length] = block
    return bytes(content)


def damage_length(file: DicomFile, rng: Random) -> DicomFile:
    """Make the length of an element too large, odd or undefined, so that the elements after it look like its value."""
    offset, length_format = file.find_length_field(int(rng.choice(TAGS)))
    max_length = 0xFFFF if length_format == "H" else 0xFFFFFFFF
    length = int(rng.choice([0, 1, 3, 200, 5000, max_length // 2, max_length - 1, max_length]))
    return file.with_bytes(offset, struct.pack(file.byte_order + length_format, length))


def swap_tags(file: DicomFile, rng: Random) -> DicomFile:
    """Give an element the tag of another."""
    tag_to_change, new_tag = (int(tag) for tag in rng.choice(TAGS, 2, replace=False))
    return file.with_bytes(
        file.find_element(tag_to_change), struct.pack(f"{file.byte_order}HH", new_tag >> 16, new_tag & 0xFFFF)
    )


def break_vr(file: DicomFile, rng: Random) -> DicomFile:
    """Replace a value representation by another one, or by bytes that are none."""
    vrs = [b"SQ", b"OB", b"UN", b"US", b"DS", b"IS", b"PN", b"AT", b"FD", b"UT", b"ZZ", b"\0\0", b"??", b"us"]
    return file.with_bytes(file.find_element(int(rng.choice(TAGS))) + 4, vrs[rng.integers(len(vrs))])


def break_number(file: DicomFile, rng: Random) -> DicomFile:
    """Put text, a huge number or nothing where a number or an age should be."""
    tags = [0x00101010, 0x00281050, 0x00281051, 0x00281053, 0x00280120, 0x00280101, 0x00280010]
    return file.with_value(int(rng.choice(tags)), BAD_NUMBERS[rng.integers(len(BAD_NUMBERS))])


def put_patient_name(file: DicomFile, rng: Random) -> DicomFile:
    """Put a patient's name, short or very long, where a code should be."""
    tags = [0x00080060, 0x00080005, 0x00101010, 0x00100040, 0x00185101, 0x00280004]
    return file.with_value(int(rng.choice(tags)), (NAME + " ").encode() * int(rng.choice([1, 20, 3000])))


def declare_size(file: DicomFile, rng: Random) -> DicomFile:
    """Declare other rows and columns, up to 65,535, in the header alone or in the code stream too."""
    sides = [int(side) for side in rng.choice([1, 127, 5600, 9000, 60000, 65535], 2)]
    for tag, side in zip((0x00280010, 0x00280011), sides, strict=True):
        file = file.with_value(tag, struct.pack(f"{file.byte_order}H", side))
    return _with_frame_size(file, *sides) if rng.integers(2) else file


def contradict_header(file: DicomFile, rng: Random) -> DicomFile:
    """Give the code stream another size than the header has."""
    sizes = [(SIDE * 2, SIDE), (60000, 60000), (1, 1), (SIDE, 0)]
    return _with_frame_size(file, *sizes[rng.integers(len(sizes))])


def _with_frame_size(file: DicomFile, rows: int, columns: int) -> DicomFile:
    """Change the size in the code stream's own header; RLE and native pixels get other first bytes instead."""
    start = file.find_element(0x7FE00010)
    frame = file.body[start:]
    if b"\xff\x4f\xff\x51" in frame:  # SIZ: the picture, and one tile of its size
        offset = start + frame.index(b"\xff\x4f\xff\x51") + 8
        sides = struct.pack(">2L", columns, rows)
        return file.with_bytes(offset, sides).with_bytes(offset + 16, sides)
    if b"\xff\xc0" in frame:
        return file.with_bytes(start + frame.index(b"\xff\xc0") + 5, struct.pack(">2H", rows, columns))
    return file.with_bytes(start + 28, struct.pack("<4L", rows, columns, 0xFFFFFFFF, 7))


def shrink_precincts(file: DicomFile, rng: Random) -> DicomFile:
    """Divide a JPEG 2000 into so many small precincts that their lists would fill the memory.

    In files of other kinds the frame's header becomes noise.
    """
    start = file.find_element(0x7FE00010)
    if file.transfer_syntax != uid.JPEG2000Lossless:
        return file.with_bytes(start + 24, rng.bytes(40))
    body = _replace_cod_segment(file.body, file.body.find(b"\xff\x52", start))
    length_offset = body.index(b"\xff\x4f\xff\x51") - 4  # the length of the fragment
    (size,) = struct.unpack_from("<L", body, length_offset)
    body = body[:length_offset] + struct.pack("<L", size + len(body) - len(file.body)) + body[length_offset + 4 :]
    side = struct.pack("<H", int(rng.choice([SIDE, 5600])))
    file = replace(file, body=body).with_value(0x00280010, side).with_value(0x00280011, side)
    return _with_frame_size(file, *struct.unpack("<H", side) * 2)


def _replace_cod_segment(body: bytes, offset: int) -> bytes:
    """A body whose COD segment at `offset` (ISO/IEC 15444-1, A.6.1) declares precincts of 2 x 2 at all levels."""
    (length,) = struct.unpack_from(">H", body, offset + 2)
    levels = body[offset + 9]
    segment = b"\x01" + body[offset + 5 : offset + 10] + bytes([0, 0]) + body[offset + 12 : offset + 14]
    segment += bytes([0x11] * (levels + 1))
    return body[: offset + 2] + struct.pack(">H", len(segment) + 2) + segment + body[offset + 2 + length :]


def lie_about_syntax(file: DicomFile, rng: Random) -> bytes:
    """Declare another transfer syntax than the file is written in."""
    syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
              "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70",
              "1.2.3", NAME]  # fmt: skip
    false_syntax = str(rng.choice(syntaxes)).encode()
    true_syntax = file.transfer_syntax.encode() + b"\0" * (len(file.transfer_syntax) % 2)
    offset = file.meta.index(true_syntax)
    false_syntax += b"\0" * (len(false_syntax) % 2)
    meta_start, meta_end = file.meta[: offset - 2], file.meta[offset + len(true_syntax) :]
    return (
        meta_start + struct.pack("<H", len(false_syntax)) + false_syntax + meta_end + file.file_bytes[len(file.meta) :]
    )


def plant_deflate_bomb(file: DicomFile, rng: Random) -> bytes:
    """Deflate up to a gigabyte of zeros: as pixels, in a private element, or as elements without a length."""
    return _build_deflate_bomb(str(rng.choice(["pixels", "private", "header"])), int(rng.choice([100, 1000])))


@cache
def _build_deflate_bomb(position: str, megabytes: int) -> bytes:
    deflated_file = next(file for file in build_small_dicoms() if file.transfer_syntax.is_deflated)
    offset, length_format = deflated_file.find_length_field(0x7FE00010)
    pixel_length = struct.pack(deflated_file.byte_order + length_format, megabytes << 20)
    start_bytes = {
        "pixels": deflated_file.with_bytes(offset, pixel_length).body, "header": b"",
        "private": struct.pack("<2H2s2xL", 9, 0x10, b"OB", megabytes << 20),
    }  # fmt: skip
    packer = zlib.compressobj(6, wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(start_bytes[position]), *(packer.compress(bytes(1 << 20)) for _ in range(megabytes))]
    parts.append(packer.flush())
    return deflated_file.meta + b"".join(parts)


def multiply_elements(file: DicomFile, rng: Random) -> DicomFile:
    """Add two million empty elements, or 5,000 sequences within one another."""
    if rng.integers(2):
        empty = bytes(4) if file.transfer_syntax.is_implicit_VR else b"LO\0\0"
        return replace(file, body=(struct.pack(f"{file.byte_order}2H", 0x0009, 0x0010) + empty) * 2_000_000 + file.body)
    vr = b"" if file.transfer_syntax.is_implicit_VR else b"SQ\0\0"
    tags = struct.pack(f"{file.byte_order}2H", 0x0028, 0x3010) + vr + b"\xff" * 4
    item = struct.pack(f"{file.byte_order}2HL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return replace(file, body=file.body[: file.find_element(0x7FE00010)] + (tags + item) * 5000)


DAMAGES: tuple[Damage, ...] = (
    flip_bits, flip_header_bits, truncate_file, overwrite_block, damage_length, swap_tags, break_vr, break_number,
    put_patient_name, declare_size, contradict_header, shrink_precincts, lie_about_syntax, plant_deflate_bomb,
    multiply_elements,
)  # fmt: skip


def generate_damaged_files(
    count: int, seed: int, damages: Sequence[Damage] = DAMAGES
) -> Iterator[tuple[str, str, bytes]]:
    """Kind of damage, kind of file and content of `count` damaged files: each damage done to each file, in turn."""
    pairs = [(damage, file) for file in build_small_dicoms() for damage in damages]
    for number in range(count):
        damage, file = pairs[number % len(pairs)]
        result = damage(file, np.random.default_rng([seed, number]))
        yield damage.__name__.replace("_", " "), file.name, result if isinstance(result, bytes) else result.file_bytes
