"""Generative methods: rows of earlier tasks are generated, not stored."""
