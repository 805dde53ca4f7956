"""The data: findings of the data check, labels by fold, and leaks between training and held-out images."""

from cxr.errors import DataError, UsageError
from pipeline.pictures.__main__ import draw_class_balance
from pipeline.report.blocks import Table, embed_svg
from pipeline.run_files import RunFiles


def build_fold_blocks(run: RunFiles) -> list:
    """Class balance by fold, and the share of images that leak."""
    figure = draw_class_balance(run)
    alt = "labelled images with and without a pneumothorax, by fold"
    chapter_blocks = [] if figure is None else [embed_svg(figure, alt, wide=True)]
    try:
        chapter_blocks += _build_leak_blocks(run.leak_record)
    except (UsageError, DataError) as error:
        chapter_blocks.append(f"No leak figures: {error}.")
    return chapter_blocks


def _build_leak_blocks(leak_record: dict) -> list:
    rows = [_leak_row(row) for row in [*leak_record["folds"], {"fold": "all"} | leak_record["all"]]]
    header = ["fold", "images", "positive", "patient also in training", "near-duplicate also in training"]
    known_count, images = leak_record["patients_known"], leak_record["images"]
    sentences = ["Patients unknown: images of one patient may stand on both sides."] if not known_count else []
    sentences += [f"Patients are known of {known_count:,} of {images:,} images."] if 0 < known_count < images else []
    sentences.append("There is a leak." if leak_record["leak"] else "No leak among what is known.")
    return [Table(header, rows), " ".join(sentences)]


def _leak_row(row: dict) -> list[str]:
    positive = "unknown" if row["positive"] is None else f"{row['positive']:,}"
    shares = (_format_share(row[trait]) for trait in ("patient", "duplicate"))
    return [str(row["fold"]), f"{row['images']:,}", positive, *shares]


def _format_share(shares: dict | None) -> str:
    if shares is None:
        return "unknown"
    positive = shares["positive_share"]
    return f"{shares['share']:.1%}" + ("" if positive is None else f", of positive {positive:.1%}")


def build_doctor_blocks(run: RunFiles) -> list:
    """Findings of the data check, and the share of positives by view, sex and age."""
    doctor_record = run.doctor_record
    counts = doctor_record["counts"]
    count_table = Table([name.replace("_", " ") for name in counts], [[f"{count:,}" for count in counts.values()]])
    findings = [[row["severity"], f"{row['count']:,}", row["what"]] for row in doctor_record["findings"]]
    prevalence = [
        [row["by"], row["group"], f"{row['images']:,}", f"{row['positive']:,}", f"{row['share']:.1%}"]
        for row in doctor_record["prevalence"]
    ]
    chapter_blocks = [f"{doctor_record['summary']} (doctor.html shows examples and what to do.)", count_table]
    chapter_blocks += [Table(["", "count", "finding"], findings)] if findings else []
    chapter_blocks += [Table(["by", "group", "images", "with", "share"], prevalence)] if prevalence else []
    return chapter_blocks
