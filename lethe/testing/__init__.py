"""Checks of methods, suites, models and devices, and builders of their inputs, for authors' own tests.

In a test file, one line makes a test for each check::

    from lethe.testing import conformance

    test_mine = conformance("./mine.py:M")

``ready`` builds a method over three lanes, to compare one of its terms with a formula; ``toy_cell`` is a cell
that trains in a second; ``made_up`` and ``write_run`` make runs to report without training. Lethe's own
tests are made of the same builders.
"""

from bench.checks.in_memory import Checkpoints
from bench.checks.launches import launches_per_step
from bench.checks.made_streams import SMALL, codes, sentences
from bench.checks.one_check import Result
from bench.checks.pretended_device import pretended_device
from bench.checks.pretended_runs import device_cells, device_findings
from bench.checks.pretended_tensor import PretendedDevice, Wait
from bench.checks.pytest_cases import conformance
from bench.checks.targets import targets
from lethe.testing.made_lanes import (
    SEEDS,
    assert_equal,
    begin,
    lanes_on,
    learn_once,
    new_batch,
    perturb,
    ready,
    remembered,
    replayed,
    snapshot,
    train_on,
)
from lethe.testing.made_records import (
    frames_of,
    made_cell,
    made_up,
    not_done,
    of_cell,
    record,
    timings,
    toy_run,
    with_classes,
    write_run,
)
from lethe.testing.plain_torch import (
    assert_lanes_are,
    dense_of,
    descend,
    features_of,
    lane_module,
    lane_value,
    logits_of,
    loss_among,
)
from lethe.testing.toy_suites import (
    TOY,
    TOY_AGAIN,
    TOY_PAIRS,
    TOY_TEXT,
    TOY_UNEVEN,
    blobs,
    domain_blobs,
    outcome,
    registered,
    split,
    toy_cell,
)

__all__ = [
    "SEEDS", "SMALL", "TOY", "TOY_AGAIN", "TOY_PAIRS", "TOY_TEXT", "TOY_UNEVEN", "Checkpoints",
    "PretendedDevice", "Result", "Wait", "assert_equal", "assert_lanes_are", "begin", "blobs", "codes",
    "conformance", "dense_of", "descend", "device_cells", "device_findings", "domain_blobs",
    "features_of", "frames_of", "lane_module", "lane_value", "lanes_on", "launches_per_step",
    "learn_once", "logits_of", "loss_among", "made_cell", "made_up", "new_batch", "not_done", "of_cell",
    "outcome", "perturb", "pretended_device", "ready", "record", "registered", "remembered", "replayed",
    "sentences", "snapshot", "split", "targets", "timings", "toy_cell", "toy_run", "train_on",
    "with_classes", "write_run",
]  # fmt: skip
