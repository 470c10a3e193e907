"""Errors of the operating system that describe the machine, not the program that met them."""

import errno
import re
from collections.abc import Iterator

from suites.errors import EnvironmentFault, UserError
from suites.tracebacks import message_of, own_place

OF_MACHINE = {
    code: what
    for name, what in {
        "ENOSPC": "free space there",
        "EDQUOT": "free space there, or ask for a larger quota",
        "EROFS": "mount it for writing",
        "EIO": "check the disk",
        "ENXIO": "check the disk",
        "ENODEV": "check the disk",
        "ESTALE": "mount the network folder again",
        "ENOTCONN": "mount the network folder again",
        "ENFILE": "close other programs: the system has too many open files",
        "EMFILE": "raise the limit of open files: ulimit -n 4096",
    }.items()
    if (code := getattr(errno, name, None)) is not None
}
"""What to do, by the number of an OSError that describes a state of the machine."""


def machine_fault(error: BaseException) -> EnvironmentFault | None:
    """Return the fault of the machine that an error is or was caused by, None for other errors."""
    if isinstance(error, EnvironmentFault):
        return error
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in OF_MACHINE:
            said = f"{error}: {OF_MACHINE[cause.errno]}" if isinstance(error, UserError) else in_words(cause)
            return EnvironmentFault(said)
    return None


def in_words(error: Exception) -> str:
    """Return what happened and what to do."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])  # of safetensors
    if not isinstance(error, OSError) or error.strerror is None:
        what = message_of(error)
    else:
        where = error.filename or own_place(error)  # the system does not name the file of a failed write
        what = f"{where}: {error.strerror}" if where else error.strerror
    return f"{what}: {OF_MACHINE[number]}" if number in OF_MACHINE else f"{type(error).__name__}: {what}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        suppressed = error.__suppress_context__ and not isinstance(error, UserError)
        error = error.__cause__ or (None if suppressed else error.__context__)
