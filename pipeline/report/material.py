"""The data: what the doctor says, how labels and folds lie, and who leaks from training into what is held out."""

from cxr.errors import DataError, UsageError
from pipeline.pictures import class_balance
from pipeline.report.blocks import Table, vector
from pipeline.report.sources import Sources


def fold_blocks(run: Sources) -> list:
    """Class balance by fold, and the leak figures."""
    figure = class_balance(run.recipe, run.paths)
    alt = "labelled images with and without a pneumothorax, by fold"
    found = [] if figure is None else [vector(figure, alt, wide=True)]
    try:
        found += _leaks(run.leaks)
    except (UsageError, DataError) as error:
        found.append(f"No leak figures: {error}.")
    return found


def _leaks(found: dict) -> list:
    rows = [_row(row) for row in [*found["folds"], {"fold": "all"} | found["all"]]]
    header = ["fold", "images", "positive", "patient also in training", "near-duplicate also in training"]
    known, images = found["patients_known"], found["images"]
    words = ["Patients unknown: images of one patient may stand on both sides."] if not known else []
    words += [f"Patients are known of {known:,} of {images:,} images."] if 0 < known < images else []
    words.append("There is a leak." if found["leak"] else "No leak among what is known.")
    return [Table(header, rows), " ".join(words)]


def _row(row: dict) -> list[str]:
    positive = "unknown" if row["positive"] is None else f"{row['positive']:,}"
    shares = (_share(row[trait]) for trait in ("patient", "duplicate"))
    return [str(row["fold"]), f"{row['images']:,}", positive, *shares]


def _share(figures: dict | None) -> str:
    if figures is None:
        return "unknown"
    positive = figures["positive_share"]
    return f"{figures['share']:.1%}" + ("" if positive is None else f", of positive {positive:.1%}")


def doctor_blocks(run: Sources) -> list:
    """The doctor's findings and the share of positives by view, sex and age; its own page shows examples."""
    seen = run.doctor
    counts = Table([name.replace("_", " ") for name in seen["counts"]], [[f"{n:,}" for n in seen["counts"].values()]])
    findings = [[one["severity"], f"{one['count']:,}", one["what"]] for one in seen["findings"]]
    prevalence = [
        [row["by"], row["group"], f"{row['images']:,}", f"{row['positive']:,}", f"{row['share']:.1%}"]
        for row in seen["prevalence"]
    ]
    found = [f"{seen['summary']} (doctor.html shows examples and what to do.)", counts]
    found += [Table(["", "count", "finding"], findings)] if findings else []
    found += [Table(["by", "group", "images", "with", "share"], prevalence)] if prevalence else []
    return found
