"""Standard output and error that no reader and no locale can break."""

import io
import sys
from typing import Any, TextIO


class _Outlet(io.FileIO):
    """A file descriptor whose reader may have gone: ``lethe report RUN | head`` still writes its files."""

    def write(self, data: object, /) -> int:
        """Write bytes; those that nobody reads any more are dropped."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def make_output_safe() -> None:
    """Replace standard output and error, unless something else already has.

    What the encoding of the locale cannot express is written as its code, such as ``\\u2248``.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _safe(stream))


def _safe(stream: TextIO) -> TextIO:
    raw = _Outlet(stream.fileno(), "wb", closefd=False)
    lines = stream.isatty() or stream is sys.__stderr__
    bytes_out = io.BufferedWriter(raw)
    return io.TextIOWrapper(bytes_out, stream.encoding, "backslashreplace", line_buffering=lines)


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that are not finite are null, and data frames lists of rows."""
    from pydantic_core import to_json

    print(to_json(value, indent=1, inf_nan_mode="null", fallback=_as_json).decode())


def _as_json(value: Any) -> Any:
    return value.to_dict("records") if hasattr(value, "to_dict") else value.item()
