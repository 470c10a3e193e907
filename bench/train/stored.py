"""What a lane will store at the end of its stream, found without training."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import suites
from bench.plan import CellSpec, Stored
from bench.train.lane_state import make_lanes
from strategies.core import Unsuitable, held_memory
from suites.base import Training


@dataclass
class StoredWhenFull:
    """Returns what a lane of a cell stores after its last task, with all memories of rows full.

    ``setup`` makes all state of a method in its final shapes, except rows, of which a full memory has
    ``most_rows``. Seeds whose tasks have equal numbers of classes have equal shapes: one of them is made.
    """

    _seeds: dict[Any, tuple[list[int], int]] = field(default_factory=dict)

    def __call__(self, spec: CellSpec, seeds: Sequence[int]) -> Stored | str:
        """Return the memory of a cell with these seeds, or why its method cannot learn the suite."""
        distinct, n_rows = self._distinct(spec, seeds)
        found: list[tuple[int, int]] = []
        try:
            for seed in distinct:
                # Nothing is trained, so that the weights of an exported model are not needed.
                state = make_lanes([replace(spec, seed=seed)], warm_start=lambda *_: None)
                found.append(held_memory(state.strategy, 0, full=True))
        except Unsuitable as reason:
            return str(reason)
        rows, size = (max(of_seed[n] for of_seed in found) for n in range(2))
        return Stored(rows, size, n_rows)

    def _distinct(self, spec: CellSpec, seeds: Sequence[int]) -> tuple[list[int], int]:
        """Return a seed for each shape of streams, and the fewest training rows of a stream."""
        training = Training(**spec.training)
        asked = (
            spec.suite,
            spec.scenario,
            tuple(seeds),
            astuple(replace(training, epochs=1, iterations=0, lr=1)),
        )
        if asked not in self._seeds:
            suite = suites.get(spec.suite)
            data, shapes, rows = suite.load(), dict[Any, int](), []
            for seed in seeds:
                stream = suite.stream(data, spec.scenario, seed, training)  # type: ignore[arg-type]
                shapes.setdefault((stream.n_units, *(len(t.units) for t in stream.tasks)), seed)
                rows.append(sum(len(t.train_rows) for t in stream.tasks))
            self._seeds[asked] = [*shapes.values()], min(rows)
        return self._seeds[asked]
