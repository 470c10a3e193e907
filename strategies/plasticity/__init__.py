"""Staying able to learn."""
