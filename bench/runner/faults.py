"""Distinguishes what a cell did from what happened to it.

Only what a cell does is its outcome. A fault of the environment (a full disk, missing data, a killed worker,
a lost device) is not: no record is written, the run ends with exit code 1 and says what to repair, and the
next run tries the cell again. For an error in a cell the rule is:

1. If it arose while a checkpoint, a model or a record was written, it is a fault of the environment, and the
   run stops: no other cell could be stored either.
2. If it is, or was caused by, an OSError whose number describes the machine (no space left, read-only,
   input/output error ...; suites.machine_faults), it is a fault of the environment, also if the method's
   own code met it.
3. If it says that the device is lost, it is a fault of the environment.
4. Any other OSError or UserError (a file, data or a model that is not found) is one, too, unless it passed
   through a method of the strategy: a hook is responsible for what it opens. A temporary folder that was
   removed is always a fault of the environment.
5. Everything else is raised by the cell, which has failed.

For workers that die see bench.runner.suspects.
"""

import errno
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.train import is_broken
from strategies.core import Strategy
from suites.errors import EnvironmentFault, UserError
from suites.machine_faults import in_words, machine_fault
from suites.tracebacks import message_of

_LOST = re.compile(
    r"(CUDA|HIP|CUDA driver) error.*(no CUDA-capable|unavailable|ECC|lost|hardware|driver|initialization|"
    r"system not|invalid device ordinal|not permitted|unknown error|no device)|Found no NVIDIA|CUDA unknown"
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
        raise EnvironmentFault(f"cannot write into {folder}: {in_words(error)}", stops=True) from error
    except UserError as error:  # of the store, which names the folder
        raise EnvironmentFault(str(machine_fault(error) or error), stops=True) from error


def fault_of(error: BaseException) -> EnvironmentFault | None:
    """Return the fault of the environment behind an error, None if the cell itself raised it."""
    if of_machine := machine_fault(error):
        return of_machine
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return None  # as MemoryError: it may fit with fewer lanes
    if isinstance(error, OSError) and (_is_temporary(error) or not _in_method(error)):
        return EnvironmentFault(in_words(error))
    if isinstance(error, UserError) and not _in_method(error):
        return EnvironmentFault(str(error))
    return None


def breaks_process(error: BaseException, device: str) -> bool:
    """Return whether no other cell can use the device in this process after an error.

    After a fault of a CUDA kernel, every later call of CUDA fails; the first one may say anything.
    """
    words = message_of(error)
    says_so = isinstance(error, RuntimeError) and bool(_BROKEN.search(words) or _LOST.search(words))
    return says_so or is_broken(device)


def lost_device(message: str, device: str) -> str:
    """Return the fault of the environment if an error says that the device is lost, else an empty text."""
    return f"device {device} is lost: {message}: check it with nvidia-smi" if _LOST.search(message) else ""


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
