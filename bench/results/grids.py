"""A grid in runs: one method with several values of some settings."""

from dataclasses import dataclass

import pandas as pd

from bench.plan import text_of


@dataclass(frozen=True)
class Grid:
    """A strategy with several values of some settings, in one suite and scenario."""

    suite: str
    scenario: str
    name: str
    """The selector; of grids that are shown as one, all of them."""
    strategy: str
    axes: tuple[str, ...]
    """The settings that differ."""
    settings: pd.DataFrame
    """One row per setting, in the order asked for: its identity, whether it is ``chosen``, ``why`` it could
    not be, means with half-widths of the 95 % t interval over ``n`` seeds on both splits, the ``axes``."""
    cells: pd.DataFrame
    """The rows of ``Frames.cells`` of all settings."""
    why: str = ""
    """Why no setting is chosen."""

    @property
    def chosen(self) -> str:
        """The chosen setting in words, ``lam=10, lr=0.1``; empty for none."""
        found = self.settings[self.settings["chosen"]]
        return ", ".join(f"{axis}={text_of(found[axis].iloc[0])}" for axis in self.axes) if len(found) else ""

    @property
    def place(self) -> tuple[str, str]:
        """Suite and scenario."""
        return self.suite, self.scenario
