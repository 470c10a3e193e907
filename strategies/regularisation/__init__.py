"""Penalties on the change of weights."""
