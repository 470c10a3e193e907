"""The checks as pytest tests: ``test_mine = conformance("./mine.py:M")``."""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

from bench.checks.made_streams import made_streams
from bench.checks.one_check import check_one
from bench.checks.targets import Target, targets


@cache
def _subject(name: str) -> tuple[Target, Any]:
    (target,) = targets([name])
    with made_streams():
        return target, target.subject(name)


def conformance(
    *names: str, without: Mapping[str, Collection[str]] | None = None
) -> Callable[[str, str], None]:
    """Return a pytest test with a case for each name and each check of its kind.

    Args:
        names: Strategies, suites or models, as ``lethe check`` takes them.
        without: Check -> names to which it does not apply. These cases are not collected, and any other case
            that does not apply fails. By default, cases that do not apply are skipped.

    Raises:
        UserError: There is none of that name.
    """
    import pytest  # a dependency of tests only

    cases = [
        (target.name, check)
        for target in targets(names)
        for check in target.checks
        if target.name not in (without or {}).get(check, ())
    ]

    @pytest.mark.parametrize(("target", "check"), cases)
    def test_conformance(target: str, check: str) -> None:
        found, subject = _subject(target)
        result = check_one(subject, check, found.checks)
        if result.skipped and without is None:
            pytest.skip(result.skipped)
        assert not result.skipped, f"{target}: {check} does not apply: {result.skipped}; list it in `without`"
        assert not [*result.findings, *([result.note] if result.note else [])]

    return test_conformance
