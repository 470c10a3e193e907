"""Which model a cell trains, as one value that every room reads."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelRef:
    """A model: made once, in bench.plan, and handed on with the cell."""

    kind: Literal["built-in", "pretrained", "exported"]
    """``pretrained`` is a folder of transformers or a repository of the Hugging Face hub; ``exported`` is a
    folder that ``lethe export`` made."""
    name: str
    """As specs and records write it: a built-in name, a repository, or a folder."""
    architecture: str = ""
    """The built-in that builds a model of images; empty for a transformer, which is loaded by ``name``."""
    generates: bool = False
    """Whether it generates text and does nothing else. False for ``pretrained`` models, whose own
    configuration says it."""
    fingerprint: str = ""
    """SHA-256 of an exported model that learning continues from; empty for a fresh start."""

    @property
    def reads_texts(self) -> bool:
        """Whether it reads texts, not images."""
        return not self.architecture
