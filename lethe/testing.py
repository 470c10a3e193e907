"""Checks that an author can run: is a device right, does a step wait for it, how fast are lanes on it?"""

from bench.checks.gpu import FULL, QUICK, Size, agreement, never_waits, speed

__all__ = ["FULL", "QUICK", "Size", "agreement", "never_waits", "speed"]
