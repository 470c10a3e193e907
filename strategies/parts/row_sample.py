"""Some rows of a task, drawn at random, the same number for every lane.

Axes: L lanes, R rows.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from strategies.core import Draws, LaneStreams


def sample_rows(
    streams: LaneStreams, draws: Draws, name: str, task: int, wanted: int
) -> tuple[Tensor, Tensor]:
    """Return ``wanted`` rows of a task, drawn without replacement, and which are real (1 or 0), (L, R) each.

    If a lane has fewer rows, one of them is repeated as padding.
    """
    of_lanes = [s.tasks[task].train_rows.to(streams.device) for s in streams.streams]
    # One draw of the largest length for all lanes, so that no lane's numbers depend on other lanes.
    draw_LR = draws.uniform(name, max(len(rows) for rows in of_lanes))
    rows, real = [], []
    for rows_R, draw_R in zip(of_lanes, draw_LR, strict=True):
        chosen_R = rows_R[draw_R[: len(rows_R)].argsort()[:wanted]]
        missing = wanted - len(chosen_R)
        rows.append(torch.cat([chosen_R, chosen_R[:1].expand(missing)]))
        real.append(F.pad(torch.ones(len(chosen_R), device=streams.device), (0, missing)))
    return torch.stack(rows), torch.stack(real)
