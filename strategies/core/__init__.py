"""The base class of methods, and what authors need to write one."""

from strategies.core.complete import complete, defaults
from strategies.core.compose import Composed, composed
from strategies.core.contract import ContractBroken, python_if, shown
from strategies.core.draws import Ahead, Draws, NotAlike, hashed_uniform, splitmix64
from strategies.core.dropout import LaneDropout, draw_dropout
from strategies.core.held_memory import held_memory
from strategies.core.lanes import (
    Generators,
    LaneBatchNorm2d,
    LaneConv2d,
    LaneLinear,
    LaneModel,
    add_up,
    copy_buffers,
    dot_and_square_L,
    dot_L,
    eval_mode,
    fold_lanes,
    gradients,
    lane_vectors,
    lanewise,
    per_lane,
    restore_buffers,
    send,
    unfold_lanes,
    uniform_parameter,
    write_lane_vectors,
)
from strategies.core.optimisers import OPTIMISERS, Adam, Momentum, Optimiser, make_optimiser
from strategies.core.own_term import OwnTerm, is_measured
from strategies.core.resident import Resident
from strategies.core.saved_state import SavedState, lane_by_lane, tensor_names
from strategies.core.strategy import (
    IGNORED,
    LaneFloat,
    NotNegative,
    Share,
    Strategy,
    Unsuitable,
    mask,
    need_images,
    need_numbers,
    per_lane_loss,
    row_losses,
)
from strategies.core.streams import Batch, LaneStreams, join_batches, pad_rows
from suites.values import Bounds, Count, CountOrNone, Later, Search, only_if, unless

__all__ = [
    "IGNORED", "OPTIMISERS", "Adam", "Ahead", "Batch", "Bounds", "Composed", "ContractBroken", "Count",
    "CountOrNone", "Draws", "Generators", "LaneBatchNorm2d", "LaneConv2d", "LaneDropout", "LaneFloat",
    "LaneLinear", "LaneModel", "LaneStreams", "Later", "Momentum", "NotAlike", "NotNegative", "Optimiser",
    "OwnTerm", "Resident", "SavedState", "Search", "Share", "Strategy", "Unsuitable", "add_up", "complete",
    "composed", "copy_buffers", "defaults", "dot_L", "dot_and_square_L", "draw_dropout", "eval_mode",
    "fold_lanes", "gradients", "hashed_uniform", "held_memory", "is_measured", "join_batches",
    "lane_by_lane", "lane_vectors", "lanewise", "make_optimiser", "mask", "need_images", "need_numbers",
    "only_if", "pad_rows", "per_lane", "per_lane_loss", "python_if", "restore_buffers", "row_losses",
    "send", "shown", "splitmix64", "tensor_names", "unfold_lanes", "uniform_parameter", "unless",
    "write_lane_vectors",
]  # fmt: skip
