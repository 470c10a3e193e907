"""Where an error was raised: the user's own lines, without those of Lethe and of installed packages."""

import os
import sysconfig
import traceback
from pathlib import Path

_MOST = 1000
"""Longest message, in characters."""
_ROOT = Path(__file__).parents[1]
_LETHE = tuple(f"{_ROOT / package}{os.sep}" for package in ("bench", "lethe", "strategies", "suites"))
_METHODS = f"{_ROOT / 'strategies'}{os.sep}", f"{_ROOT / 'strategies' / 'core'}{os.sep}"
_PYTHON = tuple({f"{Path(sysconfig.get_path(name))}{os.sep}" for name in ("stdlib", "platstdlib")})


def message_of(error: BaseException) -> str:
    """Return the first line of an error's message; empty if it has none, or none that can be printed."""
    try:
        lines = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    except Exception:  # the message is made by code of the user, too
        return ""
    return encodable(lines[0][:_MOST]) if lines else ""


def kind_and_message(error: BaseException) -> str:
    """Return kind and first line of an error."""
    message = message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, its kind if it has none."""
    return message_of(error) or type(error).__name__


def encodable(text: str) -> str:
    """Return a text that can be written as UTF-8: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def own_lines(error: BaseException, most: int = 5) -> list[str]:
    """Return the last lines of the user's files that an error passed through, as Python prints them."""
    own = [frame for frame in _frames(error) if _is_own(frame)]
    return [text.rstrip() for text in traceback.format_list(own[-most:])]


def own_place(error: BaseException) -> str:
    """Return the last file and line of the user that an error passed through; empty for none."""
    own = [frame for frame in _frames(error) if _is_own(frame)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def raised_at(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of an error: the user's, else a method's, else Lethe's; None for no such."""
    frames = _frames(error)
    for belongs in (_is_own, _is_method, _is_ours):
        if found := [frame for frame in frames if belongs(frame)]:
            return found[-1]
    return None


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = list(traceback.extract_tb(error.__traceback__))
    if isinstance(error, SyntaxError) and error.filename:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>", line=error.text))
    return frames


def _is_own(frame: traceback.FrameSummary) -> bool:
    path = frame.filename
    installed = not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)
    return os.path.isabs(path) and not (installed or path.startswith((*_LETHE, *_PYTHON)))


def _is_method(frame: traceback.FrameSummary) -> bool:
    methods, core = _METHODS
    return frame.filename.startswith(methods) and not frame.filename.startswith(core)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_LETHE)
