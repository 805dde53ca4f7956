"""What can be wrong with a DICOM file, done to bytes: seeded."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from pydicom import uid

from bench.small_dicoms import NAME, SIDE, File, files

NUMBERS = (b"1,5", b"NaN", b"inf", b"1.0.0", b"1e400", b"", b"1\\2", b"-1e-320", b"9" * 400, NAME.encode())
TAGS = [0x00080060, 0x00101010, 0x00185101, 0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100, 0x00280101,
        0x00280102, 0x00280103, 0x00280120, 0x00281050, 0x00281051, 0x00281053, 0x00283010, 0x7FE00010]  # fmt: skip
Random = np.random.Generator
Damage = Callable[[File, Random], File | bytes]


def flip_bits(file: File, random: Random) -> bytes:
    """One to 64 bits, anywhere."""
    content = bytearray(file.content)
    for place in random.integers(0, len(content), random.integers(1, 65)):
        content[place] ^= 1 << random.integers(8)
    return bytes(content)


def flip_bits_of_header(file: File, random: Random) -> File:
    """One to 16 bits before the pixels."""
    body = bytearray(file.body)
    for place in random.integers(0, file.place(0x7FE00010) + 12, random.integers(1, 17)):
        body[place] ^= 1 << random.integers(8)
    return replace(file, body=bytes(body))


def cut(file: File, random: Random) -> bytes:
    """The file ends somewhere."""
    content = file.content
    return content[: random.integers(len(content))]


def overwrite(file: File, random: Random) -> bytes:
    """A block of zeros, ones or noise, as a bad disk leaves it."""
    content = bytearray(file.content)
    start, length = random.integers(len(content)), int(random.integers(1, 4096))
    block = [bytes(length), b"\xff" * length, random.bytes(length)][random.integers(3)]
    content[start : start + length] = block
    return bytes(content)


def damage_length(file: File, random: Random) -> File:
    """The length of an element is too large, odd or undefined; what follows is taken for its value."""
    place, form = file.length_field(int(random.choice(TAGS)))
    most = 0xFFFF if form == "H" else 0xFFFFFFFF
    length = int(random.choice([0, 1, 3, 200, 5000, most // 2, most - 1, most]))
    return file.patched(place, struct.pack(file.order + form, length))


def swap_tags(file: File, random: Random) -> File:
    """An element stands under another one's tag."""
    one, other = (int(tag) for tag in random.choice(TAGS, 2, replace=False))
    return file.patched(file.place(one), struct.pack(f"{file.order}HH", other >> 16, other & 0xFFFF))


def break_vr(file: File, random: Random) -> File:
    """A value representation that is another, or none."""
    kinds = [b"SQ", b"OB", b"UN", b"US", b"DS", b"IS", b"PN", b"AT", b"FD", b"UT", b"ZZ", b"\0\0", b"??", b"us"]
    return file.patched(file.place(int(random.choice(TAGS))) + 4, kinds[random.integers(len(kinds))])


def break_number(file: File, random: Random) -> File:
    """No number, or one beyond all measure, where a number or an age should be."""
    tags = [0x00101010, 0x00281050, 0x00281051, 0x00281053, 0x00280120, 0x00280101, 0x00280010]
    return file.with_value(int(random.choice(tags)), NUMBERS[random.integers(len(NUMBERS))])


def put_name(file: File, random: Random) -> File:
    """A patient's name, short or endless, where a code should be."""
    tags = [0x00080060, 0x00080005, 0x00101010, 0x00100040, 0x00185101, 0x00280004]
    return file.with_value(int(random.choice(tags)), (NAME + " ").encode() * int(random.choice([1, 20, 3000])))


def declare_size(file: File, random: Random) -> File:
    """Rows and columns of a plate as large as a wall, in the header alone or in the code stream, too."""
    sides = [int(side) for side in random.choice([1, 127, 5600, 9000, 60000, 65535], 2)]
    for tag, side in zip((0x00280010, 0x00280011), sides, strict=True):
        file = file.with_value(tag, struct.pack(f"{file.order}H", side))
    return _with_frame_size(file, *sides) if random.integers(2) else file


def disagree(file: File, random: Random) -> File:
    """The code stream says another size, depth or count of components than the header."""
    sizes = [(SIDE * 2, SIDE), (60000, 60000), (1, 1), (SIDE, 0)]
    return _with_frame_size(file, *sizes[random.integers(len(sizes))])


def _with_frame_size(file: File, rows: int, columns: int) -> File:
    """Another size in the code stream's own header; of RLE and native pixels, other first bytes."""
    start = file.place(0x7FE00010)
    frame = file.body[start:]
    if b"\xff\x4f\xff\x51" in frame:  # SIZ: the picture, and one tile of its size
        place = start + frame.index(b"\xff\x4f\xff\x51") + 8
        sides = struct.pack(">2L", columns, rows)
        return file.patched(place, sides).patched(place + 16, sides)
    if b"\xff\xc0" in frame:
        return file.patched(start + frame.index(b"\xff\xc0") + 5, struct.pack(">2H", rows, columns))
    return file.patched(start + 28, struct.pack("<4L", rows, columns, 0xFFFFFFFF, 7))


def crush(file: File, random: Random) -> File:
    """A JPEG 2000 of pieces so small that their lists would fill the memory; of others, noise in the frame's header."""
    start = file.place(0x7FE00010)
    place = file.body.find(b"\xff\x52", start)
    if file.syntax != uid.JPEG2000Lossless:
        return file.patched(start + 24, random.bytes(40))
    (length,) = struct.unpack_from(">H", file.body, place + 2)
    levels = file.body[place + 9]
    pieces = b"\x01" + file.body[place + 5 : place + 10] + bytes([0, 0]) + file.body[place + 12 : place + 14]
    pieces += bytes([0x11] * (levels + 1))
    body = file.body[: place + 2] + struct.pack(">H", len(pieces) + 2) + pieces + file.body[place + 2 + length :]
    item = body.index(b"\xff\x4f\xff\x51") - 4  # the length of the fragment
    (size,) = struct.unpack_from("<L", body, item)
    body = body[:item] + struct.pack("<L", size + len(body) - len(file.body)) + body[item + 4 :]
    side = struct.pack("<H", int(random.choice([SIDE, 5600])))
    file = replace(file, body=body).with_value(0x00280010, side).with_value(0x00280011, side)
    return _with_frame_size(file, *struct.unpack("<H", side) * 2)


def lie_about_syntax(file: File, random: Random) -> bytes:
    """Another transfer syntax than the file is written in."""
    others = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
              "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70",
              "1.2.3", NAME]  # fmt: skip
    lie = str(random.choice(others)).encode()
    old = file.syntax.encode() + b"\0" * (len(file.syntax) % 2)
    place = file.meta.index(old)
    lie += b"\0" * (len(lie) % 2)
    start, rest = file.meta[: place - 2], file.meta[place + len(old) :]
    return start + struct.pack("<H", len(lie)) + lie + rest + file.content[len(file.meta) :]


def inflate(file: File, random: Random) -> bytes:
    """A deflate bomb: up to a gigabyte of zeros in the pixels, in an unknown element, or as elements of no length."""
    return _bomb(str(random.choice(["pixels", "private", "header"])), int(random.choice([100, 1000])))


@cache
def _bomb(place: str, megabytes: int) -> bytes:
    explicit = next(each for each in files() if each.syntax.is_deflated)
    at, form = explicit.length_field(0x7FE00010)
    starts = {
        "pixels": explicit.patched(at, struct.pack(explicit.order + form, megabytes << 20)).body, "header": b"",
        "private": struct.pack("<2H2s2xL", 9, 0x10, b"OB", megabytes << 20),
    }  # fmt: skip
    packer = zlib.compressobj(6, wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(starts[place]), *(packer.compress(bytes(1 << 20)) for _ in range(megabytes))]
    parts.append(packer.flush())
    return explicit.meta + b"".join(parts)


def multiply(file: File, random: Random) -> File:
    """Millions of empty elements, or sequences within sequences."""
    if random.integers(2):
        empty = bytes(4) if file.syntax.is_implicit_VR else b"LO\0\0"
        return replace(file, body=(struct.pack(f"{file.order}2H", 0x0009, 0x0010) + empty) * 2_000_000 + file.body)
    vr = b"" if file.syntax.is_implicit_VR else b"SQ\0\0"
    tags = struct.pack(f"{file.order}2H", 0x0028, 0x3010) + vr + b"\xff" * 4
    item = struct.pack(f"{file.order}2HL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return replace(file, body=file.body[: file.place(0x7FE00010)] + (tags + item) * 5000)


DAMAGES: tuple[Damage, ...] = (
    flip_bits, flip_bits_of_header, cut, overwrite, damage_length, swap_tags, break_vr, break_number, put_name,
    declare_size, disagree, crush, lie_about_syntax, inflate, multiply,
)  # fmt: skip


def damaged(count: int, seed: int, damages: Sequence[Damage] = DAMAGES) -> Iterator[tuple[str, str, bytes]]:
    """Kind of damage, kind of file and content of `count` damaged files: each damage to each file, in turn."""
    pairs = [(damage, file) for file in files() for damage in damages]
    for number in range(count):
        damage, file = pairs[number % len(pairs)]
        result = damage(file, np.random.default_rng([seed, number]))
        yield damage.__name__.replace("_", " "), file.name, result if isinstance(result, bytes) else result.content
