"""Toy steps: small Python programs that write a file, fail, or record which GPU they were given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.config import StrictModel
from cxr.paths import Paths
from cxr.step import Step

TOY = """
import json, os, sys, time
from pathlib import Path
folder, fingerprint, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
folder.mkdir(parents=True, exist_ok=True)
record = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "CXR_RUN_WORK", "CXR_PLAIN", "CXR_WORKERS")}
record["start"] = time.time()
(folder / "process.json").write_text(json.dumps(record))
if what.startswith("exit"):
    sys.exit(int(what[4:]))
if what == "die":
    os.kill(os.getpid(), 9)
time.sleep(float(what))
(folder / "out.txt").write_text("made")
(folder / "process.json").write_text(json.dumps(record | {"end": time.time()}))
(folder / "run.json").write_text(json.dumps({"fingerprint": fingerprint, "seconds": 1.0}))
"""


class ToyConfig(StrictModel):
    number: int = 0


class ToyStep(Step):
    """Up to date once its process has run to the end."""

    @property
    def is_up_to_date(self) -> bool:
        return (self.folder / "run.json").is_file()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "data", "toy", 64)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Step]:
    """Make a step: its name, what it does ('exit3', 'die' or seconds), its inputs, its work."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "toy_step.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(code))
    for name in ("CUDA_VISIBLE_DEVICES", "CXR_RUN_WORK", "CXR_WORKERS", "RECIPE", "DATA", "WEIGHTS"):
        monkeypatch.delenv(name, raising=False)

    def make(name: str, what: str = "0", inputs: tuple[Path, ...] = (), work: float = 1.0, disk: int = 0) -> Step:
        folder = tmp_path / "run" / name
        command = ("toy_step", str(folder), "x", what)
        return ToyStep(name, "stage1_classify", command, folder, ToyConfig(), inputs, work, disk)

    return make
