"""Context-dependent gating.

Axes: L lanes, T tasks, F units of a layer.
"""

from typing import Annotated

from torch import Tensor

from strategies.core import LaneFloat, Search, Share, Strategy
from strategies.parts import Gated, unit_count


class XdG(Gated):
    """Context-dependent gating: each task uses its own random subset of every hidden layer.

    A unit's output is multiplied by 0 for a share ``gated`` of the units, drawn once for each task, and by
    1 for the others (Masse 2018). The paper combines it with EWC or SI: ``xdg+si``.
    """

    name = "xdg"
    paper = "Masse, Grant & Freedman 2018, Alleviating catastrophic forgetting"
    needs = "the task of every row, dense layers and convolutions"
    presets = {"vandeven2022": {"gated": 0.9}}

    gated: Annotated[Share, Search(0.1, 0.95)] = LaneFloat(0.8)
    """Share of each hidden layer's units that a task does not use."""

    def setup(self) -> None:
        """Draw the closed units of every task."""
        super().setup()
        self.open_LTF: list[Tensor] = []
        for i, layer in enumerate(self._layers):
            shape = (self.streams.lanes, self.streams.n_tasks, unit_count(layer))
            drawn_LTF = self.draws.uniform(f"gates {i}", shape[1] * shape[2]).view(shape)
            place_LTF = drawn_LTF.argsort(2).argsort(2)
            closed_L = (self.gated * shape[2]).round()
            self.open_LTF.append(place_LTF >= closed_L.view(-1, 1, 1))

    def gate_now(self, layer: int) -> Tensor:
        """Return the gates of the current task."""
        return self.open_LTF[layer][:, self.task : self.task + 1]

    def gates_of_tasks(self, layer: int) -> Tensor:
        """Return the gates of every task."""
        return self.open_LTF[layer]

    def clashes(self, other: Strategy) -> str | None:
        """Replayed rows would pass the gates of the current task, and closed units would seem inactive."""
        if other.family in ("baseline", "regularisation"):
            return None
        return (
            f"{self.name} gates each step by the current task, so it can be composed only with penalties on "
            "parameters, as in xdg+si"
        )
