"""Engines by their address."""

from collections.abc import Callable

from bench.engines.interface import Engine
from bench.engines.slurm import SLURM
from suites.errors import UserError


def engine_at(address: str, gpus: float = 0.0) -> Engine:
    """Connect to the scheduler at an address of ``--on``.

    Args:
        address: The address.
        gpus: The share of a GPU that a call needs; Ray chooses it, a worker of Dask is started with its own.

    Raises:
        UserError: The address has no known scheme, its engine is not installed, or nothing answers there.
    """
    kind, _, rest = address.partition("://")
    if kind == SLURM:
        raise UserError("jobs of Slurm run a command: use lethe run ... --on slurm")
    if kind not in _ENGINES or not rest:
        raise UserError(f"cannot run on {address!r}; use one of: {', '.join(ADDRESSES)}")
    try:
        return _ENGINES[kind](rest, gpus)
    except ModuleNotFoundError as error:
        why = f"--on {kind}://... needs {error.name}"
        raise UserError(f"{why}: pip install 'lethe-bench[{kind}]'") from None


def _dask(address: str, gpus: float) -> Engine:
    from bench.engines.dask_engine import DaskEngine

    return DaskEngine(address)


def _ray(address: str, gpus: float) -> Engine:
    from bench.engines.ray_engine import RayEngine

    return RayEngine(address, gpus)


_ENGINES: dict[str, Callable[[str, float], Engine]] = {"dask": _dask, "ray": _ray}
LOCAL = "local"
ADDRESSES = (
    LOCAL,
    "dask://HOST:PORT",
    "ray://HOST:PORT",
    "slurm",
    "slurm://shares=8,partition=NAME,minutes=60",
)
"""What ``--on`` takes; ``local`` and ``slurm`` need no engine that stays connected."""
