"""The comparison of two runs, and the margins that it is judged by."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bench.schema.fields import Count, Described, FileModel

Margin = Annotated[float, Field(gt=0)]
ANY = "any"
"""In ``margins``, every suite or score that has no entry of its own."""
Expectation = Literal["not-worse", "same", "equal"]
"""What a comparison raises an alarm for: ``worse`` verdicts; ``better`` verdicts too; and every record
that is not equal bit for bit."""


class Project(FileModel):
    """``lethe.toml``: the settings of a project. ``schema = 1`` can be omitted."""

    margins: dict[str, dict[str, Margin]] = {}
    """By suite and score, the largest difference that does not count, in points, or in percent for sizes and
    times; ``any`` for the suites and scores without an entry."""

    def margin(self, suite: str, score: str, default: float) -> float:
        """Return the margin of a score: the entry of its suite, else that of any suite, else the default."""
        for of_suite in (suite, ANY):
            for of_score in (score, ANY):
                if (found := self.margins.get(of_suite, {}).get(of_score)) is not None:
                    return found
        return default


class SetupDifference(Described):
    """Something other than the results that differs between two runs, in some of the compared cells."""

    what: str
    """plan, code, data, streams, versions, device, lanes, seeds or records."""
    name: str
    """Which: a setting, source files, a package."""
    base: str
    """In BASE."""
    new: str
    """In NEW."""
    where: str
    """The compared suites, scenarios and strategies that differ."""


class Lost(Described):
    """A cell that is done in BASE and not in NEW, although NEW ran it."""

    cell: str
    """Suite, scenario, strategy and seed."""
    status: str
    """How it ended in NEW: failed, diverged or skipped."""
    why: str
    """The reason."""


class ComparedScore(Described):
    """The verdict on one score of one strategy in one suite and scenario."""

    suite: str
    """Name of the suite."""
    scenario: str
    """task, domain, class or online."""
    strategy: str
    """The canonical selector."""
    score: str
    """Name of the score, or of a size or time."""
    unit: Literal["points", "%"]
    """Unit of all differences: points, or percent of BASE for sizes and times."""
    higher_is_better: bool
    """Direction of the score."""
    n: Count
    """Number of seeds that both runs have."""
    base: float
    """Mean of BASE over these seeds, in points for scores."""
    new: float
    """Mean of NEW over these seeds, in points for scores."""
    difference: float
    """Mean of NEW - BASE over these seeds."""
    low: float | None
    """Lower end of the 95 % paired t interval of the difference; none for one seed."""
    high: float | None
    """Upper end."""
    p_holm: float | None
    """One-sided p of the paired t test in the direction of the difference, after Holm's correction over all
    scores of the comparison that differ; none for one seed, and if nothing differs."""
    margin: Margin
    """The largest difference that does not count."""
    verdict: Literal["same", "worse", "better", "unclear"]
    """The verdict."""
    equal_records: Count
    """Number of the seeds whose records are equal bit for bit."""
    seeds_needed: Annotated[int, Field(ge=2)] | None
    """For ``unclear``, the number of seeds that would decide it; none if it is not known or above 10,000."""
    why: str
    """What the verdict rests on, in words."""

    @property
    def name(self) -> str:
        """Suite, scenario, strategy and score in words."""
        return f"{self.suite} {self.scenario} {self.strategy}: {self.score}"


class Comparison(FileModel):
    """The comparison of two runs: ``lethe compare BASE NEW --json``, and what ``lethe.compare`` returns."""

    VERSION: ClassVar[int] = 1

    base: str
    """The run that is compared with."""
    new: str
    """The run that is judged."""
    expect: Expectation
    """What raises an alarm."""
    cells: Count
    """Number of cells that both runs have done."""
    equal_cells: Count
    """Number of these whose records are equal bit for bit, without timings and provenance."""
    only_base: Count
    """Number of cells that only BASE has; they are not compared."""
    only_new: Count
    """Number of cells that only NEW has; they are not compared."""
    setup: list[SetupDifference]
    """What differs besides the results."""
    lost: list[Lost]
    """Cells that are done in BASE and ended otherwise in NEW."""
    steps: list[str]
    """Suites, scenarios and strategies that took other numbers of training steps with equal settings and
    streams, in words."""
    repeated: list[str]
    """Suites, scenarios and strategies in which seeds of NEW repeat each other and those of BASE do not."""
    unequal: list[str]
    """With ``equal``, suites, scenarios and strategies whose records are not equal bit for bit."""
    unreadable: list[str]
    """Files and records that could not be read, and records that were left out."""
    scores: list[ComparedScore]
    """The verdicts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.equal_cells > self.cells:
            raise ValueError("equal_cells is larger than cells")
        return self

    def with_verdict(self, *verdicts: str) -> list[ComparedScore]:
        """Return the scores with one of some verdicts."""
        return [score for score in self.scores if score.verdict in verdicts]

    @property
    def alarms(self) -> list[str]:
        """What is wrong with NEW, a line each; empty if nothing is."""
        judged = ("worse",) if self.expect == "not-worse" else ("worse", "better")
        found = [f"{s.name} is {s.verdict}: {s.why}" for s in self.with_verdict(*judged)]
        found += [f"{lost.cell} is {lost.status}: {lost.why}" for lost in self.lost]
        found += [f"{words}, with equal settings" for words in self.steps]
        found += [f"{words}: all seeds have the same stream" for words in self.repeated]
        return found + [f"{words}: records are not equal bit for bit" for words in self.unequal]

    @property
    def exit_code(self) -> int:
        """1 if there is an alarm, else 0; ``lethe compare`` exits with 2 if it cannot compare."""
        return 1 if self.alarms else 0
