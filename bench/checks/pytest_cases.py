"""The checks as tests of pytest: ``test_mine = conformance("./mine.py:M")``."""

from collections.abc import Callable
from functools import cache
from typing import Any

from bench.checks.conformance import check_one
from bench.checks.made_streams import made_streams
from bench.checks.targets import Target, targets


@cache
def _subject(name: str) -> tuple[Target, Any]:
    (target,) = targets([name])
    with made_streams():
        return target, target.subject(name)


def conformance(*names: str) -> Callable[[str, str], None]:
    """Return a test of pytest: one for each name and each check of its kind.

    Args:
        names: Strategies, suites or models, as ``lethe check`` takes them.

    Raises:
        UserError: There is none of that name.
    """
    import pytest  # of those who test: running Lethe does without

    cases = [(target.name, check) for target in targets(names) for check in target.checks]

    @pytest.mark.parametrize(("target", "check"), cases)
    def test_conformance(target: str, check: str) -> None:
        found, subject = _subject(target)
        result = check_one(subject, check, found.checks)
        if result.skipped:
            pytest.skip(result.skipped)
        assert not [*result.findings, *([result.note] if result.note else [])]

    return test_conformance
