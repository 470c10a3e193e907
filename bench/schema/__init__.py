"""The files that Lethe writes and reads."""

from bench.schema.exported_model import BESIDE, FACTS, HEAD, README, SCHEMA, WEIGHTS, Exported

__all__ = ["BESIDE", "FACTS", "HEAD", "README", "SCHEMA", "WEIGHTS", "Exported"]
