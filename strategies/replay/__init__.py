"""Replay methods: remembered rows are learned again with new ones."""
