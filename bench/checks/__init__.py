"""Checks of methods, suites, models and devices."""
