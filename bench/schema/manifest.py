"""The manifest of a run: commands, planned cells, data, code and metadata."""

from typing import ClassVar, Literal, Self

from bench.schema.fields import CheckedFile, Described, Fields, Key, Name, Value
from bench.schema.tuned import Tuned

Metadata = dict[str, bool | str | list[str]]
"""Metadata of a strategy, suite or model, by attribute."""


_ADDED = ("strategies", "suites", "models", "code", "selectors")
"""Fields of later versions."""


class Again(Described):
    """What a command with ``--force`` or ``--retry-failed`` runs again.

    If the command is stopped and repeated, it is continued.
    """

    what: Literal["force", "retry-failed"]
    """The option."""
    cells: str
    """Hash of the keys of all its cells."""
    since: str = ""
    """When the first such command began, in UTC: records and checkpoints written since are new."""
    device: str
    """The requested device."""
    keep_models: str = ""
    """Which models it saves."""


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
    """The requested device."""
    machine: str
    """System, processor and number of cores."""
    again: Again | None = None
    """What it runs again; none without ``--force`` and ``--retry-failed``."""


class Manifest(CheckedFile):
    """``run.json``.

    Version 4 has ``selectors``. Version 3 lists the source files of ``code``. Version 2 has records in
    ``cells/*.jsonl`` and metadata of strategies, suites and models. Version 1 had a file for each record.
    """

    VERSION: ClassVar[int] = 4

    commands: list[Command]
    """Every command, in order."""
    shared: dict[str, dict[str, Value]]
    """For each suite/scenario, the settings of the first command: version, model, training. Identities name
    what differs from them."""
    data: dict[str, str]
    """Fingerprint of each suite's data set."""
    cells: dict[Key, Name]
    """The title of every planned cell, by key."""
    selectors: dict[str, dict[str, list[Name]]] = {}
    """For each suite/scenario, the identities that each selector expands to; several of a grid."""
    strategies: dict[str, Metadata] = {}
    """Metadata of each strategy: summary, family, paper, ``trains_on`` (``task``, or more for bounds) ..."""
    suites: dict[str, Metadata] = {}
    """Metadata of each suite: summary, source, licence of its data, scenarios."""
    models: dict[str, Metadata] = {}
    """Metadata of each model: its summary."""
    code: dict[str, dict[str, str]] = {}
    """The source files of each fingerprint in ``made_by`` of records, with a digest of each file."""
    tuning: dict[str, Tuned] = {}
    """How the settings of methods were chosen, by ``suite/scenario/selector``; absent without tuning."""

    @classmethod
    def empty(cls) -> Self:
        """Return the manifest of an empty folder."""
        return cls(schema=cls.VERSION, commands=[], shared={}, data={}, cells={})

    @classmethod
    def upgrade(cls, content: Fields) -> Fields:
        """Convert versions 1 (without strategies, suites, models), 2 (code) and 3 (selectors)."""
        return {name: {} for name in _ADDED} | super().upgrade(content)
