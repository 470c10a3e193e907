"""Earlier names of the builders in lethe.testing."""

from lethe.testing.made_records import frames_of as frames_of
from lethe.testing.made_records import made_cell as spec  # noqa: F401
from lethe.testing.made_records import made_up as made_up
from lethe.testing.made_records import not_done as not_done
from lethe.testing.made_records import timings as timings
from lethe.testing.made_records import with_classes as with_classes
from lethe.testing.made_records import write_run as write_run
