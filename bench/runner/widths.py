"""The number of lanes that fit into the memory of a GPU, learned from groups that did not."""

import itertools
from typing import Final

import torch

from bench.runner.claimed_groups import Group
from bench.schema import Failure

OUT_OF_MEMORY: Final = torch.cuda.OutOfMemoryError.__name__


class Widths:
    """What this process has learned; a group that does not fit is not tried again.

    Learned for cells that can be lanes of one group: the same suite, scenario, strategy, model and settings,
    with other seeds, rates and float hyper-parameters.
    """

    def __init__(self) -> None:
        self._most: dict[tuple[str, str], int] = {}

    def note(self, group: Group, device: str, failure: Failure) -> None:
        """Learn from a group that failed."""
        if failure.kind == OUT_OF_MEMORY:
            self._most[group[0].group_key, device] = len(group) - len(group) // 2

    def parts(self, group: Group, device: str) -> list[Group]:
        """Return a group in parts that fit, of sizes as equal as possible."""
        most = self._most.get((group[0].group_key, device), len(group))
        n = -(-len(group) // most)
        cuts = [len(group) * part // n for part in range(n + 1)]
        return [group[a:b] for a, b in itertools.pairwise(cuts)]


WIDTHS = Widths()
