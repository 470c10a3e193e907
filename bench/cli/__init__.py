"""The command ``lethe``. Slow imports are inside the commands that need them."""

import os
import sys

from bench.cli.app import app
from suites import errors

# Each adds its commands; --help lists them in this order.
from bench.cli import look, check, run, verify, models, report, compare, perf, packing  # isort: skip


def main() -> None:
    """Run the command; a UserError is printed as one line, with exit code 2."""
    try:
        app()
    except errors.UserError as error:
        print(f"lethe: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader has stopped: `lethe list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
