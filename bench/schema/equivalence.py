"""Fingerprints of code whose cells were made again and found equal bit for bit."""

from typing import Annotated, Self

from pydantic import Field

from bench.schema.fields import Described, FileModel, Key


class Equivalence(Described):
    """Code that made records of a strategy, suite and model, and later code that made a sample of them again.

    Every cell of the sample was equal but for timings and provenance.
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
    """Fingerprint of the code that made the sample again."""
    cells: Annotated[list[Key], Field(min_length=1)]
    """The sample."""
    before_commit: str
    """The last revision that the records or their run's manifest name; empty for none."""
    now_commit: str
    """Revision of the checkout that made the sample again, ``-dirty`` if it had changes; empty for none."""
    at: str
    """When, in UTC."""


class Equivalences(FileModel):
    """``NAME.equivalent.json``, beside the folder ``NAME`` of a run or its packed file ``NAME.lethe.gz``."""

    entries: list[Equivalence]
    """In the order they were found."""

    @classmethod
    def empty(cls) -> Self:
        """Return the list of a run whose code was compared with no other."""
        return cls(schema=cls.VERSION, entries=[])

    def same(self, strategy: str, suite: str, model: str, before: str, now: str) -> bool:
        """Return whether two fingerprints of code make the same records, by one entry or a chain of them."""
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
