"""Reading of files and folders that a user, an experiment or a record names; every failure is an OSError."""

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


def check_is_file(path: str | Path, pipe: bool = False) -> None:
    """Raise OSError unless a path is that of a regular file, or of a pipe with ``pipe``.

    A device can be read for ever, and nobody may write into a pipe.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except ValueError as error:  # a null character, or a lone surrogate
        raise OSError(errno.EINVAL, f"no possible name of a file ({error})") from None
    if kind != stat.S_IFREG and not (pipe and kind == stat.S_IFIFO):
        raise OSError(errno.EINVAL, _KINDS.get(kind, "it is not a file"))


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file; raises OSError for everything else."""
    check_is_file(path)
    return Path(path).read_bytes()


def resolved(path: str | Path) -> Path:
    """Return a path without symbolic links, as far as they lead anywhere; Path.resolve fails for a loop."""
    return Path(os.path.realpath(path))


def folder_named(name: str) -> Path | None:
    """Return the folder that a user names, None if there is none; ``~`` is the user's home."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user, or a null character
        return None
