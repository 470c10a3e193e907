"""A run on disk."""

from bench.store.environment import where
from bench.store.files import write_json, write_tensors
from bench.store.run_folder import Run
from bench.store.saved_models import WHICH, KeptModels, answers_otherwise

__all__ = ["WHICH", "KeptModels", "Run", "answers_otherwise", "where", "write_json", "write_tensors"]
