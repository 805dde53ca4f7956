"""Are the mask rows what a reader may have drawn?"""

from collections.abc import Iterator

from cxr import rle
from cxr.doctor.findings import Finding, found
from cxr.doctor.look import Look
from cxr.doctor.material import Material

TINY = 1e-4  # of the image: 105 of 1024 x 1024 pixels; the smallest that a reader meant has six times as many
HUGE = 0.5


def check(material: Material) -> Iterator[Finding]:
    """Findings on run-length codes and the masks' sizes."""
    yield from found("bad-rle", _lines(material, "bad"))
    yield from found("rle-outside", _lines(material, "outside"))
    overlapping = [(name, f"{one.overlap} pixels") for name, one in material.looks.items() if one.overlap]
    yield from found("overlapping-rows", overlapping)
    yield from found("contradicting-rows", [name for name, rows in material.rows.items() if _contradict(rows)])
    shares = {name: _share(one) for name, one in material.usable.items() if one.area}
    sizes = {name: f"{material.looks[name].area} pixels, {share:.3%}" for name, share in shares.items()}
    yield from found("tiny-masks", [(name, sizes[name]) for name, share in shares.items() if share < TINY], share=TINY)
    yield from found("huge-masks", [(name, sizes[name]) for name, share in shares.items() if share > HUGE])


def _lines(material: Material, kind: str) -> list[tuple[str, str]]:
    """Places of bad rows; not those of images that prepare leaves out with their rows."""
    table = material.layout.rows_csv.name if material.layout.rows_csv else ""
    return [(name, f"{table}, line {line}: {reason}")
            for name, one in material.usable.items() for line, reason in getattr(one, kind)]  # fmt: skip


def _contradict(rows: list) -> bool:
    empty = [row.code in ("", rle.EMPTY) for row in rows]
    return any(empty) and not all(empty)


def _share(look: Look) -> float:
    return look.area / (look.height * look.width)
