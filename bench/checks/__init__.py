"""Checks that a user can run."""
