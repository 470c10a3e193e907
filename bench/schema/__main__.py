"""``python -m bench.schema FOLDER``: write the JSON Schema of every file model."""

import json
import sys
from pathlib import Path

from bench import schema
from bench.schema import FileModel


def json_schemas() -> dict[str, str]:
    """Return the JSON Schema of every file model, by file name."""
    kinds = [m for m in vars(schema).values() if isinstance(m, type) and m is not FileModel]
    found = {m.__name__: m.model_json_schema() for m in kinds if issubclass(m, FileModel)}
    return {f"{n}.json": json.dumps(s, indent=1, ensure_ascii=False) + "\n" for n, s in found.items()}


def main(folder: Path) -> None:
    """Write the schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in json_schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
