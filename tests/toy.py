"""Earlier place of the suites in lethe.testing."""

from lethe.testing.toy_suites import *  # noqa: F403
