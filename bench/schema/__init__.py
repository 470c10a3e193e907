"""Models of the files that Lethe writes and reads; their JSON Schemas are in docs/schemas."""

from bench.schema.checkpoint import CheckpointHeader, CheckpointRows, SavedModelHeader, TextTasks
from bench.schema.comparison import (
    ANY,
    ComparedScore,
    Comparison,
    Expectation,
    Lost,
    Project,
    SetupDifference,
)
from bench.schema.equivalence import Equivalence, Equivalences
from bench.schema.experiment import DEFAULT_SEEDS, Experiment, RunTable, TuneTable
from bench.schema.exported_model import BESIDE, HEAD, HEADER, README, WEIGHTS, Exported, ExportHeader
from bench.schema.fields import (
    Damaged,
    Fields,
    FileModel,
    Unreadable,
    Value,
    checked_json,
    checksum,
    has_checksum,
    is_intact,
    read_toml,
)
from bench.schema.manifest import Again, Command, Manifest, Metadata
from bench.schema.published_table import PublishedTable
from bench.schema.record import (
    NOT_CONTENT,
    CellRecord,
    ClassCounts,
    Failure,
    MadeBy,
    cell_key,
    differing_fields,
    digest,
    failure_in_words,
)
from bench.schema.recorded_scores import dense_rows
from bench.schema.tuned import Trial, Tuned

__all__ = [
    "ANY", "BESIDE", "DEFAULT_SEEDS", "HEAD", "HEADER", "NOT_CONTENT", "README", "WEIGHTS", "Again",
    "CellRecord", "CheckpointHeader", "CheckpointRows", "ClassCounts", "Command", "ComparedScore",
    "Comparison", "Damaged", "Equivalence", "Equivalences", "Expectation", "Experiment", "ExportHeader",
    "Exported", "Failure", "Fields", "FileModel", "Lost", "MadeBy", "Manifest", "Metadata", "Project",
    "PublishedTable", "RunTable", "SavedModelHeader", "SetupDifference", "TextTasks", "Trial",
    "TuneTable", "Tuned", "Unreadable", "Value", "cell_key", "checked_json", "checksum",
    "dense_rows", "differing_fields", "digest", "failure_in_words", "has_checksum", "is_intact", "read_toml",
]  # fmt: skip
