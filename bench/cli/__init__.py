"""The command ``lethe``. Slow imports are inside the commands that need them."""

import sys
import traceback
from typing import NoReturn

from bench.cli.app import DEBUG, app, debugging, in_order_of_use
from bench.cli.completion import begin_completion
from bench.cli.output import make_output_safe
from suites import errors
from suites.machine_faults import in_words, machine_fault
from suites.tracebacks import kind_and_message, own_lines, raised_at

# Each adds its commands.
from bench.cli import look, describe, init, check, run, tune, verify, models, report  # isort: skip  # noqa: F401
from bench.cli import compare, perf, bisect, history, packing  # isort: skip  # noqa: F401

in_order_of_use()


def main() -> None:
    """Run the command.

    A UserError is printed as one line, with exit code 2; a fault of the environment, with 1. An error in a
    user's file is printed with the file's own lines.
    """
    make_output_safe()
    begin_completion()
    try:
        app(args=[word for word in sys.argv[1:] if word != DEBUG], prog_name="lethe")
    except errors.UserError as error:
        ended = machine_fault(error) or error
        _end(error, error.__cause__ or error, str(ended), ended.exit_code)
    except Exception as error:
        if (frame := raised_at(error)) and own_lines(error) and machine_fault(error) is None:
            _end(error, error, f"{frame.filename}, line {frame.lineno}: {kind_and_message(error)}", 2)
        if isinstance(error, OSError):
            _end(error, error, in_words(error), 1)
        raise


def _end(error: Exception, cause: BaseException, words: str, code: int) -> NoReturn:
    """Print an error and exit; before it the user's own lines, if there are several, or with --debug all."""
    own = own_lines(cause)
    lines = traceback.format_exception(error) if debugging() else own if len(own) > 1 else []
    print("\n".join([*(line.rstrip() for line in lines), f"lethe: {words}"]), file=sys.stderr)
    sys.exit(code)
