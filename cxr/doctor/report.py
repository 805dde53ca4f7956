"""The report as terminal text, as JSON, and as one page that needs no network."""

import base64
import io
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from cxr import images
from cxr.doctor.examine import Report
from cxr.doctor.findings import SEVERITIES, kinds
from cxr.errors import DataError
from cxr.geometry import Letterbox

WIDTH = 110
PICTURE = 160  # pixels
VERDICTS = {
    0: "fit to run", 4: "look at the warnings before a run",
    3: "nothing can be trained before the errors are mended: a run stops at them",
}  # fmt: skip


def as_text(report: Report) -> str:
    """Lines for a terminal, the gravest finding last, where the eye is when the command ends."""
    lines = [f"{report.data}: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in report.counts.items())]
    for one in reversed(report.findings):
        lines.append(f"{one.severity:8s} {one.id} ({one.count:,}): {one.what}")
        lines += [f"         {text[:160]}" for text in one.examples]
        lines += textwrap.wrap(one.advice, WIDTH, initial_indent="      -> ", subsequent_indent="         ")
    return "\n".join([*lines, *_shares(report.prevalence), f"{summary(report)} ({report.seconds} s)"])


def in_brief(report: Report) -> str:
    """What stands against a run, a line each, and the verdict."""
    against = [one for one in report.findings if one.severity != "note"]
    return "\n".join([*(f"{one.severity:8s} {one.id} ({one.count:,}): {one.what}" for one in against), summary(report)])


def _shares(prevalence: list[dict]) -> list[str]:
    """With a pneumothorax by view, by sex and by age, a line each."""
    lines: dict[str, list[str]] = {}
    for row in prevalence:
        lines.setdefault(row["by"], []).append(f"{row['group']} {row['share']:.0%} of {row['images']:,}")
    return [f"with a pneumothorax by {by}: {', '.join(groups)}" for by, groups in lines.items()]


def summary(report: Report) -> str:
    """The verdict in one line."""
    counts = {name: sum(one.severity == name for one in report.findings) for name in reversed(SEVERITIES)}
    listed = ", ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in counts.items())
    return f"{listed}: {VERDICTS[report.exit_code]}"


def as_json(report: Report) -> dict:
    """Plain values: data, made, seconds, exit_code, counts, findings, prevalence."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    findings = [{key: value for key, value in asdict(one).items() if key != "pictured"} for one in report.findings]
    return {
        "data": str(report.data), "made": made, "seconds": report.seconds, "exit_code": report.exit_code,
        "summary": summary(report), "counts": report.counts, "findings": findings, "prevalence": report.prevalence,
    }  # fmt: skip


def as_page(report: Report) -> str:
    """One HTML page with the pictures of the examples inside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              loader=FileSystemLoader(Path(__file__).parent))  # fmt: skip
    pictures = {name: picture for name, path in report.paths.items() if (picture := _picture(path))}
    page = environment.get_template("page.html")
    return page.render(**as_json(report), pictured=_pictured(report), pictures=pictures)


def _pictured(report: Report) -> dict[str, tuple[str, ...]]:
    return {one.id: one.pictured for one in report.findings if kinds()[one.id].pictured}


def _picture(path: Path) -> str | None:
    """A small JPEG as a data URL, None where the file has gone or cannot be read."""
    try:
        gray, header = images.read(path, least=PICTURE)
    except (DataError, OSError):
        return None
    canvas = Letterbox(int(header.Rows), int(header.Columns), PICTURE).apply(gray)
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
