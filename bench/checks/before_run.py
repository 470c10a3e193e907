"""The quick checks of a method in a user's file before its first run, once for each content of the file.

What needs torch is imported in the functions: a command that refuses its input does not load it.
"""

import json
import sys
from pathlib import Path

from bench.plan import Checked, files_behind
from bench.schema import digest
from suites.cache import cache_folder, read_cached, write_cached


def check_before_run(name: str) -> Checked:
    """Run the checks in ``FIRST`` of ``./mine.py:M``, or take their result from the cache; print notes."""
    findings, notes = _first_results(name)
    for words in notes:
        print(f"{name}: note: {words}", file=sys.stderr)
    fault = f"{findings[0]}; --no-check --retry-failed runs it as it is" if findings else ""
    return Checked(f"quick: {'fault' if fault else 'passed'}", fault)


def leave_out(name: str) -> Checked:
    """Check nothing; records say so."""
    return Checked("none: --no-check")


def _first_results(name: str) -> tuple[list[str], list[str]]:
    """Return findings and notes; the cache knows a file by its content and that of its imports."""
    from bench.checks.conformance import FIRST
    from bench.checks.targets import targets

    file, _, attribute = name.rpartition(":")
    content = {**files_behind("bench.checks.targets"), **files_behind(Path(file)), "class": attribute}
    path = cache_folder() / "checks" / f"{digest(content)}.json"
    try:
        saved = json.loads(read_cached(path) or b"")
        return list(saved["findings"]), list(saved["notes"])
    except (ValueError, KeyError, TypeError):
        pass  # no result for this content, or not as it was written
    said = f"{name} is new or was changed: its quick checks run first (--no-check skips them)"
    print(said, file=sys.stderr, flush=True)
    results = [result for target in targets([name]) for result in target.results(FIRST)]
    findings = list(dict.fromkeys(words for result in results for words in result.findings))
    notes = list(dict.fromkeys(result.note for result in results if result.note))
    found = json.dumps({"findings": findings, "notes": notes}).encode()
    write_cached(path, lambda file: file.write(found))
    return findings, notes
