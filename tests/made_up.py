"""Earlier names of the builders in lethe.testing."""

from lethe.testing.made_records import (
    frames_of as frames_of,
    made_cell as spec,  # noqa: F401
    made_up as made_up,
    not_done as not_done,
    timings as timings,
    with_classes as with_classes,
    write_run as write_run,
)
