"""Plasticity methods: they preserve the ability to learn new tasks."""
