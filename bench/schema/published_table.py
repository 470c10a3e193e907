"""A published table and how to run it, in TOML."""

from typing import Annotated, Literal

from pydantic import Field

from bench.schema.fields import Described, FileModel, Value

Spread = Literal["sem", "sd", "ci95"]


class PublishedNumber(Described):
    """A published mean."""

    mean: float
    """In points."""
    spread: Annotated[float, Field(ge=0)] | None = None
    """In points; absent where none was published or confirmed."""
    note: str = ""
    """What is known of a difference to ours."""


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
    """A file of ``results/published``. ``schema = 1`` may be left out."""

    title: str
    """What the table is of."""
    citation: str
    """Authors, year, journal."""
    suite: str
    """Name of the suite."""
    score: str
    """Name of the score."""
    spread: Spread
    """Kind of the published spreads: standard error, standard deviation, or half-width of a 95 % interval."""
    published_seeds: Annotated[int, Field(ge=1)]
    """Seeds that the published means are of."""
    first_seed: Annotated[int, Field(ge=0)]
    """The first seed of ours."""
    settings: Annotated[dict[str, Value], Field(alias="set")] = {}
    """Settings of every run."""
    entries: Annotated[list[PublishedEntry], Field(alias="entry", min_length=1)]
    """The methods."""
