"""All that the checks look at: the tables of a data folder, as far as they can be read, and a look at every image."""

import filecmp
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cxr import kaggle, processes
from cxr.doctor.findings import Finding, found
from cxr.doctor.look import Look, Task, look
from cxr.errors import DataError
from cxr.ids import image_id
from cxr.progress import Line

DIED = Look(refused="the decoder crashed on it, or ran out of memory")


@dataclass(frozen=True)
class Material:
    """rows, samples, patients: as `kaggle.Layout` reads them; looks: of every image, by its id."""

    data: Path
    layout: kaggle.Layout
    rows: dict[str, list[kaggle.Row]] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    patients: dict[str, str] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)

    @cached_property
    def files(self) -> dict[str, kaggle.File]:
        """The first file of each image id."""
        return {name: files[0] for name, files in self.namesakes.items()}

    @cached_property
    def namesakes(self) -> dict[str, list[kaggle.File]]:
        """All files of each image id."""
        return by_id(self.layout)

    @cached_property
    def splits(self) -> dict[str, str]:
        """train, test or unlabelled, by image id; what is in both tables counts as train."""
        samples = set(self.samples)
        return {name: "train" if name in self.rows else kaggle.split(name, file, {}, samples)
                for name, file in self.files.items()}  # fmt: skip

    @cached_property
    def usable(self) -> dict[str, Look]:
        """The images that prepare will take."""
        return {name: one for name, one in self.looks.items() if one.refused is None}

    @cached_property
    def labels(self) -> dict[str, bool]:
        """Whether a usable image with a row shows a pneumothorax."""
        return {name: one.area > 0 for name, one in self.usable.items() if name in self.rows}

    def differ(self, name: str) -> bool:
        """Whether the files of an image id are not all equal."""
        one, *others = (self.data / file.path for file in self.namesakes[name])
        try:
            return any(not filecmp.cmp(one, other, shallow=False) for other in others)
        except OSError:  # one of them cannot be read to its end
            return True


def by_id(layout: kaggle.Layout) -> dict[str, list[kaggle.File]]:
    files: dict[str, list[kaggle.File]] = {}
    for file in layout.dicoms:
        files.setdefault(image_id(file.name), []).append(file)
    return files


def gather(data: Path, workers: int | None = None) -> tuple[Material, list[Finding]]:
    """Read the tables and look at every image; and findings on tables that cannot be read.

    Raises UsageError where there is no such folder, DataError where its tables are ambiguous.
    """
    layout = kaggle.find(data)
    problems: list[Finding] = []
    rows = _tried(layout.rows, {}, "rows-unreadable", problems) if layout.rows_csv else {}
    samples = _tried(layout.samples, [], "table-unreadable", problems)
    patients = _tried(layout.patients, {}, "table-unreadable", problems)
    tubes = data / "chest_tubes.csv"
    _tried(lambda: kaggle.chest_tubes(tubes) if tubes.is_file() else {}, {}, "table-unreadable", problems)
    looks = _looks(layout, rows, workers)
    return Material(data, layout, rows, samples, patients, looks), problems


def _tried(read: Callable[[], Any], otherwise: Any, kind: str, problems: list[Finding]) -> Any:
    try:
        return read()
    except DataError as error:
        problems += found(kind, [str(error)])
    except OSError as error:
        problems += found(kind, [f"{error.filename}: {error.strerror}"])
    return otherwise


def _looks(layout: kaggle.Layout, rows: dict[str, list[kaggle.Row]], workers: int | None) -> dict[str, Look]:
    tasks = [_task(name, layout.data / files[0].path, rows) for name, files in by_id(layout).items()]
    line, looks = Line("doctor", log_every=15), {}
    for task, result in processes.each(look, tasks, workers, preload=["cxr.doctor.look"]):
        looks[task.image_id] = DIED if result is processes.DIED else result
        if len(looks) % 100 == 0:
            line.say(f"{len(looks):,} of {len(tasks):,} images")
    line.end(f"{len(looks):,} images")
    return dict(sorted(looks.items()))


def _task(name: str, path: Path, rows: dict[str, list[kaggle.Row]]) -> Task:
    return Task(name, path, tuple(rows[name]) if name in rows else None)
