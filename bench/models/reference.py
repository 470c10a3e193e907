"""The reference of the model that a cell trains, with the types of its input and its options."""

from dataclasses import dataclass
from typing import Any, Literal

Shape = tuple[int, ...]
"""Shape of an input: (channels, height, width), (tokens,) or (features,)."""
Options = dict[str, Any]
"""Options of a model by name: integers and strings."""
PRETRAINED = "pretrained"
"""The value of the option ``weights`` for those that a library has for its network."""


@dataclass(frozen=True)
class ModelRef:
    """A reference to a model. bench.plan makes it once and passes it on with the cell."""

    kind: Literal["built-in", "pretrained", "exported"]
    """``pretrained`` is a folder of transformers or a repository of the Hugging Face hub; ``exported`` is a
    folder that ``lethe export`` made."""
    name: str
    """A built-in name, a repository, or a folder, as in specs and records."""
    architecture: str = ""
    """Name of the built-in model of images; empty for transformers, which are loaded by ``name``."""
    generates: bool = False
    """Whether it only generates text. False for ``pretrained`` models, whose own configuration decides."""
    fingerprint: str = ""
    """SHA-256 of the exported model that learning continues from; empty for none."""

    @property
    def reads_texts(self) -> bool:
        """Whether it reads texts, not images."""
        return not self.architecture
