"""One framework a process: TensorFlow and PyTorch in one process crash."""

import subprocess
import sys
from collections.abc import Iterator

from cxr.paths import ROOT
from stage1_classify.config import ClassifierConfig


def dispatch_by_framework(
    members: dict[str, ClassifierConfig], module: str, arguments: list[str]
) -> Iterator[tuple[str, ClassifierConfig]]:
    """Yield the members of the first one's framework; run `module` for every other member in a subprocess."""
    for name, member in members.items():
        if member.framework == next(iter(members.values())).framework:
            yield name, member
        else:
            command = [sys.executable, "-m", module, "--member", name, *arguments]
            exit_code = subprocess.run(command, cwd=ROOT, check=False).returncode
            if exit_code:
                sys.exit(exit_code)
