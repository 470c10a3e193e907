"""Checks of methods, suites, models and devices, for authors' own tests.

In a test file, one line makes a test for each check::

    from lethe.testing import conformance

    test_mine = conformance("./mine.py:M")
"""

from bench.checks.conformance import Result
from bench.checks.gpu import FULL, QUICK, Size, agreement, never_waits, speed
from bench.checks.pytest_cases import conformance
from bench.checks.targets import targets

__all__ = ["FULL", "QUICK", "Result", "Size", "agreement", "conformance", "never_waits", "speed", "targets"]
