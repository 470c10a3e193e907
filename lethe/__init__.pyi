"""The public names and the modules that define them; __init__.py reads this list."""

from bench import (
    __version__ as __version__,
)
from bench.api import (
    compare as compare,
)
from bench.api import (
    export as export,
)
from bench.api import (
    report as report,
)
from bench.api import (
    run as run,
)
from bench.export import (
    Predictor as Predictor,
)
from bench.results import (
    Comparison as Comparison,
)
from bench.results import (
    Frames as Frames,
)
from bench.results import (
    classes as classes,
)
from bench.results import (
    load as load,
)
from strategies.core import (
    IGNORED as IGNORED,
)
from strategies.core import (
    Batch as Batch,
)
from strategies.core import (
    Bounds as Bounds,
)
from strategies.core import (
    Count as Count,
)
from strategies.core import (
    CountOrNone as CountOrNone,
)
from strategies.core import (
    LaneFloat as LaneFloat,
)
from strategies.core import (
    LaneLinear as LaneLinear,
)
from strategies.core import (
    LaneModel as LaneModel,
)
from strategies.core import (
    LaneStreams as LaneStreams,
)
from strategies.core import (
    NotNegative as NotNegative,
)
from strategies.core import (
    Share as Share,
)
from strategies.core import (
    Strategy as Strategy,
)
from strategies.core import (
    Unsuitable as Unsuitable,
)
from strategies.core import (
    dot_L as dot_L,
)
from strategies.core import (
    gradients as gradients,
)
from strategies.core import (
    lanewise as lanewise,
)
from strategies.core import (
    mask as mask,
)
from strategies.core import (
    per_lane as per_lane,
)
from strategies.core import (
    row_losses as row_losses,
)
from strategies.parts import (
    Memory as Memory,
)
from strategies.parts import (
    Replay as Replay,
)
from strategies.parts import (
    RowReplay as RowReplay,
)
from strategies.parts import (
    join_batches as join_batches,
)
from suites.base import (
    BLEU as BLEU,
)
from suites.base import (
    PROPORTION as PROPORTION,
)
from suites.base import (
    Data as Data,
)
from suites.base import (
    Score as Score,
)
from suites.base import (
    Stream as Stream,
)
from suites.base import (
    Suite as Suite,
)
from suites.base import (
    Task as Task,
)
from suites.base import (
    Training as Training,
)
from suites.base import (
    generator as generator,
)
from suites.errors import (
    Unavailable as Unavailable,
)
from suites.errors import (
    UserError as UserError,
)
from suites.scenarios import (
    by_class as by_class,
)
from suites.scenarios import (
    by_domain as by_domain,
)
from suites.scenarios import (
    by_permutation as by_permutation,
)
from suites.scenarios import (
    by_rotation as by_rotation,
)
from suites.sources import (
    fingerprint as fingerprint,
)
from suites.values import (
    only_if as only_if,
)
from suites.values import (
    unless as unless,
)
