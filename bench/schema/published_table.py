"""A published table and how to run it, in TOML."""

from typing import Annotated, Literal

from pydantic import Field

from bench.schema.fields import Described, FileModel, Value

Spread = Literal["sem", "sd", "ci95"]


class PublishedNumber(Described):
    """A published mean of one scenario."""

    mean: float
    """In points."""
    spread: Annotated[float, Field(ge=0)] | None = None
    """In points; absent if none was published or confirmed."""
    note: str = ""
    """What is known about a difference from our number."""


class PublishedEntry(Described):
    """One method of the table."""

    method: str
    """Its name in the table."""
    run: str
    """The selector that reproduces it."""
    task: PublishedNumber | None = None
    """Task-incremental."""
    domain: PublishedNumber | None = None
    """Domain-incremental."""
    class_: Annotated[PublishedNumber | None, Field(alias="class")] = None
    """Class-incremental."""
    online: PublishedNumber | None = None
    """Online class-incremental."""


class PublishedTable(FileModel):
    """A file in ``results/published``. ``schema = 1`` can be omitted."""

    title: str
    """Title of the table."""
    citation: str
    """Authors, year, journal."""
    suite: str
    """Name of the suite."""
    score: str
    """Name of the score."""
    spread: Spread
    """Kind of the published spreads: standard error, standard deviation, or half-width of a 95 % interval."""
    published_seeds: Annotated[int, Field(ge=1, le=2**31)]
    """Number of seeds of the published means."""
    first_seed: Annotated[int, Field(ge=0, le=2**31)]
    """Our first seed."""
    settings: Annotated[dict[str, Value], Field(alias="set")] = {}
    """Settings of every run."""
    entries: Annotated[list[PublishedEntry], Field(alias="entry", min_length=1)]
    """The methods."""
