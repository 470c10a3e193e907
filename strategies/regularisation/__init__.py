"""Quadratic penalties on changes of parameters."""
