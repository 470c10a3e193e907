"""``python -m bench.schema FOLDER``: write the JSON Schema of every file model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bench.schema as room
from bench.schema import FileModel


def json_schemas() -> dict[str, str]:
    """Return the JSON Schema of every file model, by file name."""
    models = [getattr(room, name) for name in room.__all__]
    return {
        f"{model.__name__}.json": json.dumps(model.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
        for model in models
        if isinstance(model, type) and issubclass(model, FileModel) and model is not FileModel
    }


def main(folder: Path) -> None:
    """Write the schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in json_schemas().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
