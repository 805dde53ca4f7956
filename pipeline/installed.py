"""Check that this Python has the packages of requirements.lock; it needs none of them itself.

python -m pipeline.installed    exit code 0 if all are there, else 1 and a line on what is missing or differs
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK_FILE = Path(__file__).resolve().parent.parent / "requirements.lock"
PIN_PATTERN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)\s*(?:;\s*sys_platform == \"(\w+)\")?\s*$")


def parse_pins(text: str) -> dict[str, str]:
    """Version of each package that a lock file wants on this system, by name."""
    matches = [PIN_PATTERN.match(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {pin[1]: pin[2] for pin in matches if pin[3] in (None, sys.platform)}


def find_differences(wanted_versions: dict[str, str]) -> list[str]:
    """Packages that are missing or have another version, as 'name 1.0 (wanted 1.1)'.

    A build's local mark ('+cpu') is the user's choice, not a difference.
    """
    installed_versions = {name: _installed_version(name) for name in wanted_versions}
    return [
        f"{name} {installed_versions[name]} (wanted {wanted_versions[name]})"
        for name in wanted_versions
        if installed_versions[name] != wanted_versions[name]
    ]


def _installed_version(name: str) -> str:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "missing"


def main() -> None:
    differences = find_differences(parse_pins(LOCK_FILE.read_text(encoding="utf-8")))
    if differences:
        remainder = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        print(
            f"the active environment differs from requirements.lock: {', '.join(differences[:5])}{remainder}",
            file=sys.stderr,
        )
        raise SystemExit(1)


if __name__ == "__main__":
    main()
