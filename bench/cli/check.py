"""``lethe check``: checks of methods, suites and models."""

import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from bench.cli.app import Json, app
from bench.cli.output import print_json
from suites import errors


@app.command(
    epilog="Examples: lethe check ./mine.py:M | lethe check 'er[buffer=50]' er+lwf | lethe check all "
    "| lethe check ./my_suite.py:SHAPES | lethe check ./mine.py:M --only alone --only resumed"
)
def check(
    target: Annotated[
        list[str],
        typer.Argument(metavar="TARGET...", help="Strategies, suites, models: name, ./file.py:Name; or all."),
    ],
    only: Annotated[list[str] | None, typer.Option(help="Run only this check; repeat for more.")] = None,
    as_json: Json = False,
) -> None:
    """Check methods, suites or models on small generated streams; each finding is one line with what to do.

    The exit code is 1 if something was found.
    """
    from bench.checks.targets import targets

    found, rows = 0, []
    chosen = targets(target)
    for name in only or ():
        if wrong := next((t for t in chosen if name not in t.checks), None):
            raise errors.unknown(f"check of a {wrong.kind}", name, list(wrong.checks))
    for one in chosen:
        began, passed, skipped = time.perf_counter(), 0, 0
        for result in one.results(only or ()):
            rows.append({"target": one.name, **asdict(result)})
            for words in result.findings if not as_json else ():
                print(f"{one.name}: {result.check}: {words}", flush=True)
            if result.note and not as_json:
                print(f"{one.name}: note, {result.check}: {result.note}", flush=True)
            found += len(result.findings)
            passed += not result.findings and not result.skipped
            skipped += bool(result.skipped)
            state = "found" if result.findings else "does not apply" if result.skipped else "passed"
            why = f": {result.skipped}" if result.skipped else ""
            print(f"{one.name} {result.check} {state} {result.seconds:.1f} s{why}", file=sys.stderr)
        n = passed + skipped
        rest = f", {skipped} do not apply" if skipped else ""
        total = len(only or one.checks)
        more = f", {total - n} found something" if total > n else ""
        if not as_json:
            seconds = time.perf_counter() - began
            print(f"{one.name}: {passed} checks passed{rest}{more}; {seconds:.0f} s", flush=True)
    if as_json:
        print_json(rows)
    if found:
        raise typer.Exit(1)
