"""Ends a worker when its parent is gone, even if the parent was killed and could not end it.

Imports nothing slow: the watch begins long before the worker has imported torch.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from functools import cache

_PR_SET_PDEATHSIG = 1
_SECONDS = 1.0
"""Seconds between looks at the parent."""


@cache
def follow(parent: int) -> None:
    """Tie this process to its parent, once: the first thing that a worker does.

    Args:
        parent: Process id of the parent.
    """
    # Ctrl-C reaches all processes of a terminal; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # at once, also while a long computation keeps Python's threads waiting
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)
