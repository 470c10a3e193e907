"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write a file whole: to a temporary name beside it, flushed, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w") as stream:
            separators = (",", ":") if indent is None else None
            # dumps, unlike dump, is written in C where nothing is indented: many times as fast.
            stream.write(json.dumps(content, indent=indent, separators=separators, allow_nan=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors whole: to a temporary name beside it, flushed, then renamed."""
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, temporary)
    _sync(temporary)
    temporary.chmod(0o644)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
