"""Words on standard error about a step that takes long, so that a command is not silent."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

PATIENCE = 2.0
"""Seconds after which a step is announced."""


def to_stderr(words: str) -> None:
    """Print words on standard error at once."""
    print(words, file=sys.stderr, flush=True)


@contextmanager
def announced(words: str) -> Iterator[None]:
    """Print what is being done if it takes longer than ``PATIENCE``; processes of workers say nothing."""
    if parent_process() is not None:
        yield
        return
    timer = threading.Timer(PATIENCE, to_stderr, (words,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
