"""Replay methods: stored rows are learned again with new ones."""
