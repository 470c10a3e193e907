"""Checks of methods, suites, models and devices, and of their speed."""
