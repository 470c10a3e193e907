"""Distinguishes what a cell did from what happened to it.

Only what a cell does is its outcome. A fault of the environment (a full disk, missing data, a killed worker,
a lost device) is none: no record is written, the run ends with exit code 1 and says what to repair, and the
next run tries the cell again. For an error in a cell the rule is:

1. If it arose while a checkpoint, a model or a record was written, it is a fault of the environment, and the
   run stops: no other cell could be stored either.
2. If it is, or was caused by, an OSError whose number describes the machine (``OF_MACHINE``: no space left,
   read-only, input/output error ...), it is one, whoever met it, the method's own code included.
3. If it says that the device is lost, it is one.
4. Any other OSError or UserError (a file, data or a model that is not found) is one unless it passed through
   a method of the strategy: what a hook opens is the hook's business. A temporary folder that was removed is
   nobody's.
5. Everything else is raised by the cell, which has failed.

A worker that dies takes no part in this: see bench.runner.processes.
"""

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strategies.core import Strategy
from suites.errors import EnvironmentFault, UserError

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
_LOST = re.compile(
    r"(CUDA|HIP|CUDA driver) error.*(no CUDA-capable|unavailable|ECC|lost|hardware|driver|initialization|"
    r"system not|invalid device ordinal|not permitted)|Found no NVIDIA|CUDA unknown error"
)
_BROKEN = re.compile(
    r"(CUDA|HIP|CUDA driver) error|CUBLAS_STATUS_(EXECUTION|INTERNAL|MAPPING)|CUDNN_STATUS_(EX|IN)"
)


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn errors of writing into faults of the environment that stop the run."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(f"cannot write into {folder}: {_in_words(error)}", stops=True) from error
    except UserError as error:  # of the store, which names the folder
        cause = error.__context__
        advice = (
            f": {OF_MACHINE[cause.errno]}" if isinstance(cause, OSError) and cause.errno in OF_MACHINE else ""
        )
        raise EnvironmentFault(f"{error}{advice}", stops=True) from error


def fault_of(error: BaseException) -> EnvironmentFault | None:
    """Return the fault of the environment behind an error, None if the cell itself raised it."""
    if isinstance(error, EnvironmentFault):
        return error
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in OF_MACHINE:
            return EnvironmentFault(_in_words(cause))
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return None  # as MemoryError: it may fit with fewer lanes
    if isinstance(error, OSError) and (_is_temporary(error) or not _in_method(error)):
        return EnvironmentFault(_in_words(error))
    if isinstance(error, UserError) and not _in_method(error):
        return EnvironmentFault(str(error))
    return None


def breaks_process(error: BaseException) -> bool:
    """Return whether no other cell can use the device in this process after an error."""
    words = str(error)
    return isinstance(error, RuntimeError) and bool(_BROKEN.search(words) or _LOST.search(words))


def lost_device(message: str, device: str) -> str:
    """Return the fault of the environment if an error says that the device is lost, else an empty text."""
    return f"device {device} is lost: {message}: check it with nvidia-smi" if _LOST.search(message) else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _in_method(error: BaseException) -> bool:
    """Return whether an error passed through a method of a strategy."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(isinstance(frame.f_locals.get("self"), Strategy) for frame, _ in frames)


def _is_temporary(error: OSError) -> bool:
    """Return whether the temporary folder, or a folder in it, is gone."""
    if not isinstance(error, FileNotFoundError):
        return False
    if "No usable temporary directory" in str(error):
        return True
    path = Path(str(error.filename or ""))
    temporary = Path(tempfile.gettempdir())
    return not temporary.is_dir() and path.is_relative_to(temporary)


def _in_words(error: Exception) -> str:
    """Return what happened and what to do."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])  # of safetensors
    if not isinstance(error, OSError) or error.strerror is None:
        what = (str(error).splitlines() or [""])[0]
    else:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{what}: {OF_MACHINE[number]}" if number in OF_MACHINE else f"{type(error).__name__}: {what}"
