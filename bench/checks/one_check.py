"""One check of a method, suite or model: what it may raise, and its result.

A check is a function of its subject that returns if it passes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bench.checks.made_streams import DIGITS, made_streams
from strategies.core import ContractBroken, Unsuitable, shown
from suites.machine_faults import machine_fault
from suites.tracebacks import kind_and_message, raised_at


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    check: str
    findings: tuple[str, ...] = ()
    """A line for each fault, with what to do."""
    note: str = ""
    """A remark for the author, although no number is wrong."""
    skipped: str = ""
    """Why the check does not apply; empty if it does."""
    seconds: float = 0.0


class Fault(Exception):
    """A finding, in one line."""


class Note(Exception):
    """A remark: something costs time or precision but is not wrong."""


class Skip(Exception):
    """A check does not apply, for this reason."""


def check_one(subject: Any, check: str, of: dict[str, Callable[[Any], None]]) -> Result:
    """Run one check of a method, suite or model."""
    began, skipped, note = time.perf_counter(), "", ""
    findings: tuple[str, ...] = ()
    try:
        with made_streams(getattr(subject, "shape", DIGITS)), _quiet():
            of[check](subject)
    except (Skip, Unsuitable) as reason:
        skipped = str(reason)
    except Note as words:
        note = str(words)
    except (Fault, ContractBroken) as fault:
        findings = (str(fault),)
    except Exception as error:
        if of_machine := machine_fault(error):
            raise of_machine from error
        findings = (_raised(error),)
    return Result(check, findings, note, skipped, time.perf_counter() - began)


@contextmanager
def _quiet() -> Iterator[None]:
    """Use one thread, as runs do, and restore torch's global generator."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def _raised(error: Exception) -> str:
    """Return an unexpected error in one line, with its place."""
    frame = raised_at(error)
    return (f"{shown(frame.filename)}, line {frame.lineno}: " if frame else "") + kind_and_message(error)
