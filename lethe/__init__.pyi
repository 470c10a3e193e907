"""The public names and the modules that they are imported from; __init__.py reads this list."""

from bench import (
    __version__ as __version__,
)
from bench.api import (
    Frames as Frames,
    Tuning as Tuning,
    compare as compare,
    load as load,
    report as report,
    run as run,
    tune as tune,
)
from bench.export import (
    Predictor as Predictor,
    export as export,
)
from bench.results import (
    Comparison as Comparison,
    classes as classes,
)
from strategies.core import (
    IGNORED as IGNORED,
    Batch as Batch,
    Bounds as Bounds,
    Count as Count,
    CountOrNone as CountOrNone,
    LaneFloat as LaneFloat,
    LaneLinear as LaneLinear,
    LaneModel as LaneModel,
    LaneStreams as LaneStreams,
    NotNegative as NotNegative,
    Search as Search,
    Share as Share,
    Strategy as Strategy,
    Unsuitable as Unsuitable,
    add_up as add_up,
    dot_L as dot_L,
    gradients as gradients,
    join_batches as join_batches,
    lanewise as lanewise,
    mask as mask,
    per_lane as per_lane,
    row_losses as row_losses,
)
from strategies.parts import (
    Memory as Memory,
    Replay as Replay,
    RowReplay as RowReplay,
)
from suites.base import (
    BLEU as BLEU,
    PROPORTION as PROPORTION,
    Data as Data,
    Score as Score,
    Stream as Stream,
    Suite as Suite,
    Task as Task,
    generator as generator,
)
from suites.errors import (
    Unavailable as Unavailable,
    UserError as UserError,
)
from suites.scenarios import (
    by_class as by_class,
    by_domain as by_domain,
    by_permutation as by_permutation,
    by_rotation as by_rotation,
)
from suites.sources import (
    fingerprint as fingerprint,
)
from suites.training import (
    Training as Training,
)
from suites.values import (
    only_if as only_if,
    unless as unless,
)
