"""The version of Lethe, as pyproject.toml has it."""

VERSION = "0.1.0"
