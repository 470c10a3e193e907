"""Metadata of strategies, suites and models for the manifest, so that readers import no user's file."""

from collections.abc import Sequence

import strategies
import suites
from bench import models
from bench.plan.cell import CellSpec
from bench.schema import Metadata
from suites.description import docstring, first_paragraph


def described(specs: Sequence[CellSpec]) -> dict[str, dict[str, Metadata]]:
    """Return metadata by kind and name; models from a folder or a hub have none."""
    named = models.names()
    return {
        "strategies": {name: _strategy(name) for name in sorted({s.strategy for s in specs})},
        "suites": {name: _suite(name) for name in sorted({s.suite for s in specs})},
        "models": {
            name: {"summary": first_paragraph(docstring(models.REGISTRY.get(name)))}
            for name in sorted({s.model for s in specs}.intersection(named))
        },
    }


def _strategy(name: str) -> Metadata:
    cls = strategies.get(name)
    attributes = {name: getattr(cls, name) for name in ("name", "family", "paper", "trains_on", "generates")}
    return {"summary": first_paragraph(docstring(cls)), **attributes}


def _suite(name: str) -> Metadata:
    suite = suites.get(name)
    metadata = {name: getattr(suite, name) for name in ("summary", "source", "licence")}
    return {**metadata, "scenarios": list(suite.scenarios)}
