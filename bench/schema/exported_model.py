"""An exported model on disk: the facts beside its weights, and the hash of all of it.

    DIR/lethe.json          what it is: model and options, labels or the tasks that texts are written for, how
                            its inputs are read, where it is from
    DIR/model.safetensors   of images: all weights; of texts: those of the transformer, beside its config.json
    DIR/head.safetensors    of texts that get labels: weight (labels, features) and bias of the head; what
                            cannot be merged
    DIR/README.md           how to load it

bench.export makes such a folder, answers with it and goes on learning from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from suites.errors import UserError

SCHEMA = 1
FACTS, WEIGHTS, HEAD, README = "lethe.json", "model.safetensors", "head.safetensors", "README.md"
BESIDE = {"adapter": "width", "prompt": "prompts"}
"""Ways to tune that cannot be written into a transformer's own weights, and the option that is their size."""


@dataclass(frozen=True)
class Exported:
    """One folder and what its lethe.json says."""

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def at(cls, folder: str | Path) -> Exported:
        """Read a folder; raises UserError where it holds no exported model."""
        path = Path(folder).expanduser()
        try:
            facts = json.loads((path / FACTS).read_text())
        except (OSError, ValueError):
            missing = not (path / FACTS).exists()
            why = f"it has no {FACTS}" if missing else f"its {FACTS} cannot be read"
            raise UserError(f"{folder} is not an exported model: {why}") from None
        needed = {"reads", "model", "options", "labels"}
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA or not needed <= facts.keys():
            raise UserError(f"{folder} was not exported by this version of Lethe")
        return cls(path, facts)

    @classmethod
    def named(cls, name: str) -> Exported | None:
        """Return the exported model that a model's name is the folder of, None where it is of none."""
        return cls.at(name) if (Path(name).expanduser() / FACTS).is_file() else None

    @property
    def name(self) -> str:
        """The folder as the name of a model, which no built-in one has."""
        return os.path.join(os.curdir, self.folder)

    @property
    def reads_texts(self) -> bool:
        """Whether it reads texts, not images."""
        return bool(self.facts["reads"] == "texts")

    @property
    def writes(self) -> bool:
        """Whether it writes texts, and answers with no labels."""
        return "writes" in self.facts

    @property
    def tasks(self) -> dict[str, str]:
        """The names of the tasks that texts are written for, and what their texts begin with."""
        return dict(self.facts["writes"]["tasks"]) if self.writes else {}

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can answer, in the order of the head."""
        return tuple(self.facts["labels"])

    @property
    def options(self) -> dict[str, Any]:
        """The options of the model it was trained as."""
        return dict(self.facts["options"])

    @cached_property
    def mark(self) -> str:
        """SHA-256 over all that changes what it answers, in hexadecimal."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and path.name != README and not path.name.startswith("."):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.name}/{content}\n".encode())
        return digest.hexdigest()

    def check(self, options: dict[str, Any]) -> None:
        """Raise UserError for options that its weights cannot be gone on with."""
        if self.writes:
            return
        if self.reads_texts:
            tune = self.options["tune"]
            fixed = ["pooling", *(["tune", BESIDE[tune]] if tune in BESIDE else [])]
        else:
            fixed = list(self.options)
        for name in fixed:
            if options[name] != self.options[name]:
                raise UserError(
                    f"{self.folder} was trained with {name}={self.options[name]}: "
                    f"going on from it with {name}={options[name]} would lose what it learned"
                )
