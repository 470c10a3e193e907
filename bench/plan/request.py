"""Requests, checked and expanded into cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import strategies
import suites
from bench import models
from bench.models import ModelRef
from bench.plan.budget import Budget
from bench.plan.cell import CellSpec
from bench.plan.grid_notation import is_grid, suites_of, values_of
from bench.plan.model import exported_reference, model_reference, option_types
from bench.plan.selectors import Choice, expanded, name_with
from bench.plan.settings import (
    OF_METHODS,
    TRAINING_HINTS,
    USUAL,
    Shared,
    check_training,
    recorded,
    training_of,
    training_value,
)
from bench.schema import Exported, Value
from suites.base import Suite, Training
from suites.bracketed import identity
from suites.errors import UserError, some, unknown
from suites.registry import NotImported
from suites.values import Condition, conditions, convert, recorded as recorded_settings, settled, text_of


@dataclass(frozen=True)
class Request:
    """One table of an experiment: a suite with scenarios, strategies, seeds and settings."""

    suite: str
    strategies: tuple[str, ...]
    scenarios: tuple[str, ...] = ("class",)
    """An empty name is the usual scenario of the suite."""
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, str] = field(default_factory=dict)
    """``--set``: training settings, ``model``, and the model's options, as text. A grid is one of every
    strategy, as if it were in the brackets of each."""
    resume_from: str = ""
    """The folder of an exported model to continue from; empty for none."""
    shown: Shared = field(default_factory=dict)
    """For each "suite/scenario" of a run, settings that identities do not name; empty for the request's own.
    They are those with which the run's folder was started."""
    budget: Budget | None = None
    """What every method may use; see ``bench.plan.sizes``."""
    sized: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """For each scenario and written selector, the selector with the sizes that fit the budget."""

    @property
    def alternatives(self) -> list[Request]:
        """A request for each suite and model: ``split-mnist[tasks=5|10]``, ``--set model=mlp|cnn``."""
        if "model" not in self.settings:
            return [replace(self, suite=name) for name in suites_of(self.suite)]
        named = dict.fromkeys(values_of("model", self.settings["model"], str))
        pairs = product(suites_of(self.suite), named)
        return [replace(self, suite=name, settings=self.settings | {"model": model}) for name, model in pairs]

    @cached_property
    def exported(self) -> Exported | None:
        """The exported model to continue from; raises UserError if the folder is not one."""
        return Exported.at(self.resume_from) if self.resume_from else None

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The scenarios; the usual one of a suite that must not be imported is taken to be class."""
        if "" not in self.scenarios:
            return self.scenarios
        usual = "class" if self.not_imported else suites.get(self.suite).usual_scenario
        return tuple(kind or usual for kind in self.scenarios)

    @cached_property
    def named_suite(self) -> str:
        """The canonical name of the suite."""
        return suites.REGISTRY.spelled(self.suite)

    def cells(self) -> list[CellSpec]:
        """Expand into cells; raises UserError for anything unknown or impossible."""
        return list(self._expanded.cells.values())

    @property
    def unresolved(self) -> dict[tuple[str, str], str]:
        """The file that must not be imported, for each scenario and selector; see ``only_files``."""
        return self._expanded.unresolved

    @property
    def remarks(self) -> list[str]:
        """A line for each selector with settings without effect, which are set back to their defaults."""
        return list(self._expanded.remarks)

    @property
    def selectors(self) -> dict[str, dict[str, list[str]]]:
        """For each suite/scenario, the identities that each selector expands to."""
        return self._expanded.selectors

    @cached_property
    def _expanded(self) -> _Expanded:
        asked = {"strategy": self.strategies, "scenario": self.scenarios, "seed": self.seeds}
        if missing := [what for what, given in asked.items() if not given]:
            raise UserError(f"choose at least one {missing[0]}")
        found = _Expanded()
        if self.not_imported:
            found.unresolved = dict.fromkeys(product(self.kinds, self.listed), self.not_imported)
            return found
        suite = suites.get(self.suite)
        for scenario in self.kinds:
            suite.check_scenario(scenario)
            base = OF_METHODS | {"scenario": scenario}
            base |= asdict(training_of(suite, scenario, self._chosen[1]))  # type: ignore[arg-type]
            for name, value in self._chosen[1].items():
                if base[name] != value:
                    why = next(c for c in conditions(TRAINING_HINTS[name]) if not c.met(base[c.other]))
                    found.remark(f"--set {name}={text_of(value)} is left out: it has no effect {why}")
            for selector in self.listed:
                try:
                    name, written = self.expand(selector)
                    sized = [self.sized.get((scenario, text), text) for text in written]
                    alike = [self._cell(suite, scenario, text) for text in sized]
                except NotImported as error:
                    found.unresolved[scenario, selector] = error.file
                    continue
                if len(alike) > 1:
                    name = name_with(name, self.settings, [cell.identity for cell, _ in alike])
                found.add(f"{self.named_suite}/{scenario}", name, written, alike)
                for any_seed, seed in product((cell for cell, _ in alike), self.seeds):
                    cell = replace(any_seed, seed=seed)
                    vars(cell)["reference"] = self.model  # looked up once for all cells
                    found.cells.setdefault(cell.key, cell)
        return found

    @property
    def listed(self) -> tuple[str, ...]:
        """The selectors, with the names of all strategies for ``all``."""
        if "all" not in self.strategies:
            return self.strategies
        return tuple(dict.fromkeys([*strategies.names(), *(s for s in self.strategies if s != "all")]))

    def expand(self, selector: str) -> tuple[str, list[str]]:
        """Return the name of a selector with the grids of ``--set``, and the selectors that it expands to."""
        return expanded(selector, self.model, self._grids)

    def cell_of(self, scenario: str, selector: str) -> CellSpec:
        """Return the cell of a selector with seed 0."""
        cell, _ = self._cell(suites.get(self.suite), scenario, selector)
        vars(cell)["reference"] = self.model
        return cell

    @cached_property
    def _grids(self) -> dict[str, str]:
        """The settings of ``--set`` with several values."""
        hints = self._types | TRAINING_HINTS
        return {k: text for k, text in self.settings.items() if k in hints and is_grid(text, hints[k])}

    @cached_property
    def not_imported(self) -> str:
        """The file of the suite or model, if it must not be imported; empty for none."""
        try:
            suites.get(self.suite)
            _ = self._chosen
        except NotImported as error:
            return error.file
        return ""

    def shared(self) -> dict[str, dict[str, Value]]:
        """Return what all cells of a suite and scenario share, for the manifest."""
        if self.not_imported:
            return {}
        suite, model = suites.get(self.suite), self.model
        named = {"continues": model.fingerprint} if model.fingerprint else {"model": model.name}
        options = recorded_settings(self._defaults | self._chosen[0], self._defaults, self._types)
        common = {"version": suite.version, **named, **options}
        common |= {} if self.budget is None else {"budget": str(self.budget)}
        return {
            f"{self.named_suite}/{scenario}": common | recorded(training_of(suite, scenario, self._chosen[1]))  # type: ignore[arg-type]
            for scenario in self.kinds
        }

    @cached_property
    def model(self) -> ModelRef:
        """The model of all cells; raises UserError for an unknown one."""
        if "|" in (named := self.settings.get("model", "")):
            raise UserError(f"model={named} names several models, and one is needed here")
        if self.exported is None:
            return model_reference(self.settings.get("model", suites.get(self.suite).model))
        if "model" in self.settings:
            raise UserError("--resume-from sets the model: leave out --model and --set model=")
        return replace(exported_reference(self.exported), fingerprint=self.exported.fingerprint)

    @cached_property
    def _defaults(self) -> dict[str, Value]:
        """The options of the model with their defaults."""
        return models.options(self.model)

    @cached_property
    def _types(self) -> dict[str, Any]:
        """The type of every option of the model."""
        return option_types(self.model)

    def _cell(self, suite: Suite, scenario: str, selector: str) -> tuple[CellSpec, list[str]]:
        """Return the cell of seed 0, and the reasons why settings have no effect."""
        model, (model_options, settings) = self.model, self._chosen
        base = training_of(suite, scenario, settings)  # type: ignore[arg-type]
        options = self._defaults | model_options
        chosen = [Choice.of(text, scenario, model) for text in strategies.split(selector)]
        own_training = {k: v for c in chosen for k, v in c.training.items()}
        own_options = {k: v for c in chosen for k, v in c.model_options.items()}
        models.check(model, options | own_options)
        name = "+".join(c.name for c in chosen)
        around: dict[str, Value] = {"scenario": scenario, "generates": suite.generates}
        around |= {key: getattr(strategies.get(name), key) for key in OF_METHODS}
        usual = asdict(base)
        training, idle = settled(usual | own_training, usual, TRAINING_HINTS, around)
        check_training(training)
        if suite.generates and (training["patience"] or training["prequential"]):
            raise UserError(f"patience and prequential need classes, and {suite.name} has texts to generate")
        if training["augment"] and model.reads_texts:
            raise UserError(f"augment crops and flips images, and {model.name} reads texts: leave it out")
        if training["augment"] and (options | own_options).get("tune") == "head" and not model.reads_texts:
            raise UserError(
                "augment crops and flips images, and tune=head reads features: --set augment=false"
            )
        around |= training
        all_options, more = settled(options | own_options, options, self._types, around)
        if self.exported:
            self.exported.check(all_options)
        reasons = [*_reasons(idle), *_reasons(more)]
        for n, choice in enumerate(chosen):
            chosen[n], idle = choice.settled(around | all_options)
            reasons += _reasons(idle)
        # Settings that differ from the defaults: of each part in its brackets, all others in the first's.
        shown = self.shown.get(f"{self.named_suite}/{scenario}")
        shared: dict[str, Value] = {}
        if shown is not None:
            usual = {k: shown.get(k, v) for k, v in USUAL.items()}
            if shown.get("model", model.name) != model.name:
                shared, options = {"model": model.name}, self._defaults
            else:
                options = {k: shown.get(k, v) for k, v in self._defaults.items()}
        shared |= {k: v for k, v in training.items() if v != usual[k]}
        shared |= {k: v for k, v in all_options.items() if v != options[k]}
        words = [identity(c.name, c.differing() | (shared if c is chosen[0] else {})) for c in chosen]
        spec = CellSpec(
            suite=self.named_suite,
            suite_version=suite.version,
            scenario=scenario,
            strategy=name,
            hyper={k: v for c in chosen for k, v in c.recorded(in_sum=len(chosen) > 1).items()},
            model=model.name,
            model_options=recorded_settings(all_options, self._defaults, self._types),
            training=recorded(Training(**training)),  # type: ignore[arg-type]
            seed=0,
            identity="+".join(words),
            continues=model.fingerprint,
        )
        return spec, reasons

    @cached_property
    def _chosen(self) -> tuple[dict[str, Value], dict[str, Value]]:
        """The settings of ``--set``, divided into options of the model and training settings."""
        suite, model = suites.get(self.suite), self.model
        known, known_training = self._defaults, [f.name for f in fields(Training)]
        options: dict[str, Value] = {}
        if self.exported:
            options = self.exported.options
        elif model.name == models.spelled(suite.model):
            options = dict(suite.model_options)
        elif model.reads_texts:
            # The suite decides how much of a text is read, and whether more than a head is trained.
            options = {k: v for k, v in suite.model_options.items() if k in ("max_tokens", "tune")}
        types, of_suite = self._types, f"suite {suite.name}: model option "
        options = {k: convert(of_suite + k, v, types[k]) if k in types else v for k, v in options.items()}
        training = {}
        for key, text in self.settings.items():
            if key in self._grids:
                continue  # in the brackets of every strategy
            if key in known:
                options[key] = convert(f"model {model.name}: {key}", text, types[key])
            elif key in known_training:
                training[key] = training_value(key, text)
            elif key != "model":
                raise unknown("setting", key, [*known_training, *known, "model"])
        return options, training


@dataclass
class _Expanded:
    """What a request expands to; see its properties."""

    cells: dict[str, CellSpec] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    unresolved: dict[tuple[str, str], str] = field(default_factory=dict)
    selectors: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    """The keys of the cells that were listed so far without settings that have no effect."""

    def remark(self, words: str) -> None:
        """Add a line, once."""
        self.remarks[words] = None

    def add(
        self, part: str, selector: str, written: Sequence[str], alike: Sequence[tuple[CellSpec, list[str]]]
    ) -> None:
        """Add the settings of a selector, as written and as cells with reasons, and remarks on them."""
        self.selectors.setdefault(part, {})[selector] = list(
            dict.fromkeys(cell.identity for cell, _ in alike)
        )
        twice: list[str] = []
        idle: dict[str, list[str]] = {}
        for text, (cell, reasons) in zip(written, alike, strict=True):
            if reasons:
                idle.setdefault("; ".join(reasons), []).append(f"{text} is run as {cell.identity}")
            elif cell.key in self._named:
                twice.append(f"{text} is listed twice and run once, as {cell.identity}")
            else:
                self._named.add(cell.key)
        for why, texts in idle.items():
            self.remark(f"{some(texts, _SHOWN)}: {why}")
        if twice:
            self.remark(some(twice, _SHOWN))


_SHOWN = 2
"""Most settings of a grid that a remark names."""


def _reasons(idle: Mapping[str, Condition]) -> list[str]:
    return [f"{name} has no effect {condition}" for name, condition in idle.items()]


def one_cell(
    suite: str,
    selector: str = "finetune",
    scenario: str = "class",
    seed: int = 0,
    settings: Mapping[str, Value] | None = None,
) -> CellSpec:
    """Return one cell, for checks, benchmarks and tests; raises UserError for anything unknown.

    ``settings`` are those of ``--set``: training settings, ``model``, and the model's options.
    """
    texts = {name: text_of(value) for name, value in (settings or {}).items()}
    spec, *others = Request(suite, (selector,), (scenario,), (seed,), texts).cells()
    if others:
        n = len(others) + 1
        raise UserError(
            f"{selector} is a grid of {n} settings, and one is needed here, such as {spec.identity}"
        )
    return spec
