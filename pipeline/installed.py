"""Whether this Python has the packages of requirements.lock; runs before any of them is there.

python -m pipeline.installed    exit code 0 when all are there, 1 with a line on what is missing or differs
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)\s*(?:;\s*sys_platform == \"(\w+)\")?\s*$")


def pins(text: str) -> dict[str, str]:
    """Name and version of each package that a lock file wants on this system."""
    found = [PIN.match(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {pin[1]: pin[2] for pin in found if pin[3] in (None, sys.platform)}


def differing(wanted: dict[str, str]) -> list[str]:
    """What is missing or has another version, as 'name 1.0 (wanted 1.1)'.

    A build's local mark ('+cpu') is the user's choice, not a difference.
    """
    found = {name: _version(name) for name in wanted}
    return [f"{name} {found[name]} (wanted {wanted[name]})" for name in wanted if found[name] != wanted[name]]


def _version(name: str) -> str:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "missing"


def main() -> None:
    found = differing(pins(LOCK.read_text(encoding="utf-8")))
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        print(f"the active environment differs from requirements.lock: {', '.join(found[:5])}{more}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
