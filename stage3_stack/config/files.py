"""Where the files lie that stage 3 reads, and the steps that make them, for messages."""

from pathlib import Path

from cxr.paths import Paths

STAGE1 = "stage 1 (cd stage1_classify && bash run.sh)"
STAGE2 = "stage 2 (cd stage2_segment && bash run.sh)"
STAGE3 = "stage 3 (cd stage3_stack && bash run.sh)"
MASK_STACK = "the mask stack (python -m stage3_stack.mask_stacker.train)"


def stacked_map_folder(paths: Paths) -> Path:
    """Folder of the mask stacker's maps, those of held-out and of test images together."""
    return paths.stage3_folder / "maps"


def map_folder(paths: Paths, member: str, fold: int | None) -> Path:
    """Folder of a segmenter's maps of a fold's held-out images or, with fold None, of the test images."""
    return paths.run_folder / "stage2" / member / "test" if fold is None else paths.fold_folder(2, member, fold)


def test_truth_path(data: Path) -> Path | None:
    """The table of the test images' hand-drawn masks, which phantoms have and a competition has not; None if absent."""
    path = data / "test-truth.csv"
    return path if path.is_file() else None


def chest_tubes_path(data: Path) -> Path | None:
    """The table of the images that show a chest tube; None if absent."""
    path = data / "chest_tubes.csv"
    return path if path.is_file() else None
