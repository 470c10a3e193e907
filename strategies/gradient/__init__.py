"""Constraints on the direction of a step."""
