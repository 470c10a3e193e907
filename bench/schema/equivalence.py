"""Fingerprints of code whose records were reproduced bit for bit by later code."""

from typing import Annotated, Self

from pydantic import Field

from bench.schema.fields import Described, FileModel, Key


class Equivalence(Described):
    """Code that made records of a strategy, suite and model, and later code that reproduced a sample of them.

    Every cell of the sample was equal except for timings and provenance.
    """

    strategy: str
    """Name of the strategy."""
    suite: str
    """Name of the suite."""
    model: str
    """Name of the model."""
    before: str
    """Fingerprint of the code of the records; empty for records of older versions, which have none."""
    now: str
    """Fingerprint of the code that reproduced the sample."""
    cells: Annotated[list[Key], Field(min_length=1)]
    """Keys of the sample."""
    before_commit: str
    """The last revision named in the records or the manifest of their run; empty for none."""
    now_commit: str
    """Revision of the checkout that reproduced the sample, ``-dirty`` if it had changes; empty for none."""
    at: str
    """When the sample was reproduced, in UTC."""


class Equivalences(FileModel):
    """``NAME.equivalent.json``, beside the folder ``NAME`` of a run or its packed file ``NAME.lethe.gz``."""

    entries: list[Equivalence]
    """In the order in which they were found."""

    @classmethod
    def empty(cls) -> Self:
        """Return an empty list."""
        return cls(schema=cls.VERSION, entries=[])

    def same(self, strategy: str, suite: str, model: str, before: str, now: str) -> bool:
        """Return whether two fingerprints of code are equivalent, by one entry or a chain of entries."""
        pairs = [
            {e.before, e.now}
            for e in self.entries
            if (e.strategy, e.suite, e.model) == (strategy, suite, model)
        ]
        reached, size = {before}, 0
        while len(reached) > size:
            size = len(reached)
            reached |= {mark for pair in pairs if pair & reached for mark in pair}
        return now in reached
