"""Checks that an author can run, of a method, a suite or a model; and those of a device.

In a file of tests, one line is a test for each check::

    from lethe.testing import conformance

    test_mine = conformance("./mine.py:M")
"""

from bench.checks.conformance import Result
from bench.checks.gpu import FULL, QUICK, Size, agreement, never_waits, speed
from bench.checks.pytest_cases import conformance
from bench.checks.targets import targets

__all__ = ["FULL", "QUICK", "Result", "Size", "agreement", "conformance", "never_waits", "speed", "targets"]
