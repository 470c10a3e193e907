"""Benchmarks compare within one process: a and b take turns, and their best rounds are divided."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 7
DEAR = 1.5
"""How many times what its definition implies a method may cost before its page must say why."""
_TABLE: list[tuple[str, str, float, str]] = []


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def compare(benchmark: BenchmarkFixture) -> Callable[..., float]:
    """Return a function that times ``ours`` against ``other`` and notes the ratio of their best rounds."""

    def measure(
        title: str,
        against: str,
        ours: Callable[[], object],
        other: Callable[[], object],
        target: str,
        per: int = 1,
        implied: float = 0.0,
    ) -> float:
        ours(), other()  # warm: allocation, lazy imports
        best = [float("inf"), float("inf")]

        def turns() -> None:
            for i, function in enumerate((ours, other)):
                start = time.perf_counter()
                function()
                best[i] = min(best[i], time.perf_counter() - start)

        benchmark.pedantic(turns, rounds=ROUNDS, iterations=1)
        ratio = best[0] / best[1]
        benchmark.extra_info.update(
            {
                "title": title,
                "against": against,
                "ratio": ratio,
                "target": target,
                "ours_ms": 1e3 * best[0] / per,
            }
        )
        if implied and ratio > DEAR * implied:
            target += f"  <- {ratio / implied:.1f} times that"
        _TABLE.append((f"{title} ({1e3 * best[0] / per:.3f} ms)", against, ratio, target))
        return ratio

    return measure


@pytest.fixture(autouse=True, scope="session")
def table() -> Iterator[None]:
    yield
    wide = max((len(row[0]) for row in _TABLE), default=0)
    print("\n\nratios of best rounds, within this process, one thread")
    for title, against, ratio, target in _TABLE:
        print(f"  {title:<{wide}}  {ratio:6.2f} x {against}  {target}")
