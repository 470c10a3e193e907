"""A run on disk."""

from bench.store.environment import where
from bench.store.files import write_json, write_tensors
from bench.store.run_folder import Run
from bench.store.saved_models import WHICH, KeptModels

__all__ = ["WHICH", "KeptModels", "Run", "where", "write_json", "write_tensors"]
