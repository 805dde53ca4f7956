"""The report as terminal text, as JSON, and as one page that needs no network."""

import base64
import io
import textwrap
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from cxr.errors import DataError
from cxr.imaging import grayscale
from cxr.imaging.geometry import Letterbox
from datatools.doctor.examine import DatasetReport
from datatools.doctor.findings import SEVERITIES, Finding, load_catalogue

TEXT_WIDTH = 110
PICTURE_SIDE = 160  # pixels
VERDICTS = {
    0: "fit to run", 4: "look at the warnings before a run",
    3: "nothing can be trained before the errors are mended: a run stops at them",
}  # fmt: skip


def format_report(report: DatasetReport) -> str:
    """The report for a terminal, the most severe finding last, where the user looks when the command ends."""
    lines = [f"{report.data}: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in report.counts.items())]
    for finding in reversed(report.findings):
        lines.append(_format_finding(finding))
        lines += [f"         {text[:160]}" for text in finding.examples]
        lines += textwrap.wrap(finding.advice, TEXT_WIDTH, initial_indent="      -> ", subsequent_indent="         ")
    return "\n".join(
        [*lines, *_format_prevalence(report.prevalence), f"{summarise_findings(report)} ({report.seconds} s)"]
    )


def format_brief(report: DatasetReport) -> str:
    """Only the warnings and errors, a line each, and the verdict."""
    problems = [finding for finding in report.findings if finding.severity != "note"]
    return "\n".join([*map(_format_finding, problems), summarise_findings(report)])


def _format_finding(finding: Finding) -> str:
    return f"{finding.severity:8s} {finding.id} ({finding.count:,}): {finding.what}"


def _format_prevalence(prevalence: list[dict]) -> list[str]:
    """Share with a pneumothorax by view, by sex and by age, a line each."""
    lines: dict[str, list[str]] = {}
    for row in prevalence:
        lines.setdefault(row["by"], []).append(f"{row['group']} {row['share']:.0%} of {row['images']:,}")
    return [f"with a pneumothorax by {column}: {', '.join(groups)}" for column, groups in lines.items()]


def summarise_findings(report: DatasetReport) -> str:
    """How many findings of each severity there are, and the verdict, in one line."""
    counts = {name: sum(finding.severity == name for finding in report.findings) for name in reversed(SEVERITIES)}
    counts_text = ", ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in counts.items())
    return f"{counts_text}: {VERDICTS[report.exit_code]}"


def as_json(report: DatasetReport) -> dict:
    """The report for doctor.json: data, made, seconds, exit_code, summary, counts, findings, prevalence."""
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    findings = [
        {key: value for key, value in asdict(finding).items() if key != "pictured"} for finding in report.findings
    ]
    return {
        "data": str(report.data), "made": created_at, "seconds": report.seconds, "exit_code": report.exit_code,
        "summary": summarise_findings(report), "counts": report.counts, "findings": findings,
        "prevalence": report.prevalence,
    }  # fmt: skip


def render_page(report: DatasetReport) -> str:
    """The report as one HTML page, the pictures of the examples embedded."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              loader=FileSystemLoader(Path(__file__).parent))  # fmt: skip
    pictures = {name: picture for name, path in report.paths.items() if (picture := _encode_picture(path))}
    template = environment.get_template("page.html")
    return template.render(**as_json(report), pictured=_list_pictured_ids(report), pictures=pictures)


def _list_pictured_ids(report: DatasetReport) -> dict[str, tuple[str, ...]]:
    return {finding.id: finding.pictured for finding in report.findings if load_catalogue()[finding.id].pictured}


def _encode_picture(path: Path) -> str | None:
    """A small JPEG as a data URL; None where the file is gone or cannot be read."""
    try:
        gray, header = grayscale.read_radiograph(path, min_longer_side=PICTURE_SIDE)
    except (DataError, OSError):
        return None
    canvas = Letterbox(int(header.Rows), int(header.Columns), PICTURE_SIDE).image_to_canvas(gray)
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
