"""Errors that speak to the user, and the exit codes they end a command with."""

import sys
from collections.abc import Callable


class UsageError(Exception):
    """The command, a setting or a missing earlier step is at fault: exit code 2."""

    exit_code = 2


class DataError(Exception):
    """The user's data is at fault; the message names the file and the row: exit code 3."""

    exit_code = 3


def run_main(main: Callable[[], None]) -> None:
    """Run a command; a UsageError or DataError ends it with one line and its exit code, no traceback."""
    try:
        main()
    except (UsageError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None
