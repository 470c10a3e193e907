"""The manifest of a run: what was asked for, with what, and over which data."""

from typing import ClassVar, Self

from bench.schema.fields import Described, Fields, FileModel, Key, Value

Metadata = dict[str, bool | str | list[str]]
"""What a strategy, suite or model says of itself, by attribute."""


class Command(Described):
    """One command that wrote into the run."""

    command: str
    """The command, as it was typed."""
    at: str
    """When it began, in UTC."""
    packages: dict[str, str]
    """Versions of the packages that results depend on."""
    python: str
    """Version of Python."""
    git: str
    """Revision of the checkout that Lethe ran from; empty for none."""
    dirty: bool
    """Whether that checkout had changes."""
    device: str
    """The device asked for."""
    machine: str
    """System, processor and number of cores."""


class Manifest(FileModel):
    """``run.json``.

    Version 3 names the source files of ``code``. Version 2 has records in ``cells/*.jsonl`` and describes
    strategies, suites and models; version 1 had a file for each record.
    """

    VERSION: ClassVar[int] = 3

    commands: list[Command]
    """Every command, in order."""
    shared: dict[str, dict[str, Value]]
    """For each suite/scenario, what all its cells have in common: version, model, training."""
    data: dict[str, str]
    """Fingerprint of each suite's data set."""
    cells: dict[Key, str]
    """Every cell that was asked for, in words."""
    strategies: dict[str, Metadata] = {}
    """What each strategy says of itself: family, paper, whether it is a bound ..."""
    suites: dict[str, Metadata] = {}
    """What each suite says of itself."""
    models: dict[str, Metadata] = {}
    """What each model says of itself."""
    code: dict[str, dict[str, str]] = {}
    """The source files behind each fingerprint in a record's ``made_by``, with a digest of what each says."""

    @classmethod
    def empty(cls) -> Self:
        """Return that of a folder in which nothing was run."""
        return cls(schema=cls.VERSION, commands=[], shared={}, data={}, cells={})

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Version 1 described no strategies, suites and models, version 2 no code."""
        return {"strategies": {}, "suites": {}, "models": {}, "code": {}, **super().upgrade(content)}
