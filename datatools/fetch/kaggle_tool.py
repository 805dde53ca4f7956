"""Kaggle's own command line tool, run with the user's token; it is not a dependency of this project."""

import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from cxr.errors import UsageError
from cxr.progress import ProgressLine

INSTALL_HELP = (
    "To get the tool: pip install kaggle. To get a token: on Kaggle, Settings, API, create a token; put the file "
    "kaggle.json into ~/.kaggle/, or its two values into KAGGLE_USERNAME and KAGGLE_KEY"
)
SLUG = r"[A-Za-z0-9][\w.-]*"
ADVICE = {
    "403": "accept the competition's rules, or the dataset's terms, on its page first",
    "404": "no such dataset or competition; is its name right?",
    "401": "the token is refused; make a new one",
}
MAX_OUTPUT = 300  # characters of the tool's output in a message
OUTPUT_FILE = "output.txt"  # in the work folder: what the tool prints


def build_command(source: str) -> list[str]:
    """The tool's arguments for `owner/dataset` or `competitions/name`; UsageError where it is neither."""
    owner, _, name = source.partition("/")
    if not re.fullmatch(SLUG, owner) or not re.fullmatch(SLUG, name):
        raise UsageError(f"'kaggle:{source}': expected kaggle:<owner>/<dataset> or kaggle:competitions/<name>")
    if owner == "competitions":
        return ["competitions", "download", "-c", name]
    return ["datasets", "download", "-d", f"{owner}/{name}"]


def download_from_kaggle(source: str, folder: Path) -> list[Path]:
    """Download a dataset or a competition's files into `folder` with the tool, which resumes earlier downloads.

    Returns the files. Raises UsageError where the tool is missing or fails; the message then has the end of its output.
    """
    arguments = build_command(source)
    tool = shutil.which("kaggle")
    if tool is None:
        raise UsageError(f"there is no command kaggle. {INSTALL_HELP}")
    folder.mkdir(parents=True, exist_ok=True)
    exit_code, output = _run_tool([tool, *arguments, "-p", str(folder)], folder, f"kaggle {source}")
    if exit_code != 0:
        raise UsageError(f"kaggle ended with code {exit_code}: {_strip_secrets(output)}. {_find_advice(output)}")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != OUTPUT_FILE)
    if not files:
        raise UsageError(f"kaggle brought no file for {source}: {_strip_secrets(output)}")
    return files


def _run_tool(call: list[str], folder: Path, label: str) -> tuple[int, str]:
    """The tool's exit code and output; the progress shown is the size of the folder."""
    line = ProgressLine(label)
    output_path = folder / OUTPUT_FILE
    with open(output_path, "wb") as output_file:
        process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=output_file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                with suppress(FileNotFoundError):  # the tool has just renamed a file
                    line.show_progress(f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.0f} MB")
        finally:
            process.terminate()
            process.wait()
    return process.returncode, output_path.read_text(encoding="utf-8", errors="replace").strip()


def _strip_secrets(output: str) -> str:
    """The end of the tool's output, without queries of URLs and without the token."""
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        if os.environ.get(name):
            output = output.replace(os.environ[name], "...")
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", " ".join(output.split()))[-MAX_OUTPUT:]


def _find_advice(output: str) -> str:
    return next((f"({code}: {advice})" for code, advice in ADVICE.items() if code in output), INSTALL_HELP)
