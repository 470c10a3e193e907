"""Methods compared with ``finetune``: which of them are like training without a method, and why."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.results.frames import Frames
from bench.stats import against
from strategies.presets import tuned

NEGLIGIBLE = 0.01
"""Largest share of the gradient at which a method's own term did not act. On digits, penalties that changed a
score had 0.03 or more in some task, and those that did not had 0.007 or less."""
PLAIN = "finetune"


@dataclass(frozen=True)
class LikeFinetune:
    """A row of the tables beside that of ``finetune``, of the same suite and scenario."""

    suite: str
    scenario: str
    identity: str
    strategy: str
    n: int
    """Number of seeds that both have."""
    difference: float | None
    """Mean difference of the final accuracy to that of finetune, in points; None without common seeds."""
    equal: bool
    """Whether the final accuracies are equal on every common seed."""
    distinguished: bool
    """Whether the final accuracies differ significantly (paired sign-flip test, Holm over the rows)."""
    own_term: float | None
    """Largest ``own_term`` of a record, over tasks and seeds; None if it is not recorded."""

    @property
    def idle(self) -> bool:
        """Whether its own term is known not to have acted, and nothing else distinguishes it."""
        return self.own_term is not None and self.own_term < NEGLIGIBLE and not self.distinguished

    @property
    def equal_in_words(self) -> str:
        """That the final accuracies are equal."""
        return f"equal to finetune on {'its seed' if self.n == 1 else f'all {self.n} seeds'}"

    @property
    def own_term_in_words(self) -> str:
        """How much its own term acted."""
        share = 100 * (self.own_term or 0.0)
        if share < 100 * NEGLIGIBLE:
            return f"its own term hardly acted, at most {share:.2g} % of the rest of the gradient"
        return f"its own term acted, up to {share:.2g} % of the rest of the gradient"

    @property
    def advice(self) -> str:
        """What can be done about a method that does nothing on a suite: a preset, or tuning."""
        preset = tuned().get(self.strategy, {}).get(self.suite, {})
        if any(self.scenario in of_scenarios for of_scenarios in preset.values()):
            return f"take {self.strategy}[preset={self.suite}]"
        return f"tune it: lethe tune {self.suite} -s {self.strategy} --scenario {self.scenario}"


def compared_with_finetune(frames: Frames, without: Collection[str] = ()) -> list[LikeFinetune]:
    """Return every row but those of ``finetune`` and of some identities, compared with ``finetune``.

    ``finetune`` is the row without settings; where the runs have none, only ``own_term`` is known.
    """
    done = frames.cells[frames.cells["status"] == "done"]
    found: list[LikeFinetune] = []
    for (suite, scenario), cells in done.groupby(["suite", "scenario"], sort=False):
        of_part = frames.scores[(frames.scores["suite"] == suite) & (frames.scores["scenario"] == scenario)]
        plain = _plain(cells)
        acc = of_part[of_part["score"] == "acc"].pivot(index="seed", columns="identity", values="value")
        acc = acc[[name for name in acc if name not in without or name == plain]]
        judged = against(acc, plain) if plain and acc.shape[1] > 1 else None
        for (identity, strategy), own in cells.groupby(["identity", "strategy"], sort=False)["own_term"]:
            if strategy == PLAIN or identity in without:
                continue
            common, equal, difference, distinguished = 0, False, None, False
            if judged is not None:
                gap = (acc[identity] - acc[plain]).dropna()
                common, equal = len(gap), len(gap) > 0 and bool((gap == 0).all())
                difference = 100 * float(gap.mean()) if common else None
                distinguished = str(judged.loc[str(identity), "verdict"]) in ("better", "worse")
            share = float(own.astype(float).max())
            found.append(
                LikeFinetune(
                    str(suite), str(scenario), str(identity), str(strategy), common, difference, equal,
                    distinguished, None if np.isnan(share) else share,
                )
            )  # fmt: skip
    return found


def _plain(cells: pd.DataFrame) -> str:
    """Return the identity of finetune without settings, which can have a display name; empty for none."""
    named = cells[cells["strategy"] == PLAIN]["identity"].unique()
    return PLAIN if PLAIN in named else str(named[0]) if len(named) == 1 and "[" not in named[0] else ""
