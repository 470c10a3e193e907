"""The command ``lethe``: thin; whatever is slow to import is imported by the command that needs it."""

import os
import sys

from bench.cli.app import app
from suites import errors

# Each adds its commands, and --help lists them in this order.
from bench.cli import look, check, run, verify, models, report, packing  # isort: skip


def main() -> None:
    """Run the command; what the user asked for and cannot be is one line and exit code 2."""
    try:
        app()
    except errors.UserError as error:
        print(f"lethe: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader has seen enough: `lethe list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
