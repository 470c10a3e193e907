"""Targets of ``lethe check``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import strategies
import suites
from bench import models
from bench.checks.conformance import CHECKS
from bench.checks.made_streams import made_streams
from bench.checks.model_checks import MODEL_CHECKS, ModelSubject
from bench.checks.one_check import Result, Skip, check_one
from bench.checks.pretended_runs import DEVICE_CHECKS
from bench.checks.subjects import Subject
from bench.checks.suite_checks import SUITE_CHECKS, SuiteSubject
from suites.errors import UserError, unknown

GPU, PRETENDED = "gpu", "pretended-gpu"
"""Targets that are devices: a real one, by bench.checks.gpu, and a pretended one, for every strategy."""


@dataclass(frozen=True)
class Target:
    """A strategy, suite or model, with the checks of its kind."""

    name: str
    kind: str
    checks: dict[str, Callable[[Any], None]]
    subject: Callable[[str], Any]

    def results(self, only: Sequence[str] = ()) -> Iterator[Result]:
        """Run all checks, or some by name; yield the result of each."""
        try:
            with made_streams():
                subject = self.subject(self.name)
        except Skip as reason:
            yield Result("all", skipped=str(reason))
            return
        said: dict[str, str] = {}
        for check in only or self.checks:
            result = check_one(subject, check, self.checks)
            for words in (*result.findings, result.note):
                # A broken contract fails most checks: it is reported once.
                first = said.setdefault(re.sub(r"\(\d+,\)", "", words), check)
                if words and first != check:
                    result = Result(check, skipped=f"it fails as {first} does", seconds=result.seconds)
            yield result


def targets(names: Sequence[str]) -> list[Target]:
    """Return the targets of names; ``all`` means every strategy.

    Raises:
        UserError: A name is not that of a strategy, suite or model, or has checks that run alone.
    """
    found = []
    for name in names:
        if name == GPU:
            raise UserError("lethe check gpu takes minutes and no other targets: run it alone")
        found += [_target(each) for each in (strategies.names() if name == "all" else [name])]
    return found


def _target(name: str) -> Target:
    parts = strategies.method_names(name)
    if all(strategies.REGISTRY.has(part) for part in parts):
        return Target(name, "strategy", CHECKS, Subject)
    if name == PRETENDED:
        return Target(name, "device", DEVICE_CHECKS, str)
    if suites.REGISTRY.has(name):
        return Target(name, "suite", SUITE_CHECKS, SuiteSubject)
    if models.REGISTRY.has(name):
        return Target(name, "model", MODEL_CHECKS, ModelSubject)
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        raise UserError(f"{path} has no strategy, suite or model {attribute!r}")
    known = [*strategies.names(), *suites.REGISTRY.names(), *models.names(), "all"]
    known += [GPU, PRETENDED, "defaults"]
    raise unknown("target", name, known)
