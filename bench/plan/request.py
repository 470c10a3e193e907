"""What was asked for, checked and expanded into cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from bench.plan.cell import CellSpec
from bench.plan.selectors import Choice, identity
from bench.plan.settings import as_annotated, check_training, convert, recorded, training_value
from bench.schema import Exported
from suites.base import SCENARIOS, Suite, Training
from suites.errors import UserError, unknown


@dataclass(frozen=True)
class Request:
    """One table of an experiment: a suite with scenarios, strategies, seeds and settings."""

    suite: str
    strategies: tuple[str, ...]
    scenarios: tuple[str, ...] = ("class",)
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, str] = field(default_factory=dict)
    """``--set``: training settings, ``model``, and the model's options, as text."""
    resume_from: str = ""
    """The folder of an exported model to go on from; empty for none."""

    @cached_property
    def exported(self) -> Exported | None:
        """The exported model to go on from; raises UserError for a folder that holds none."""
        return Exported.at(self.resume_from) if self.resume_from else None

    def cells(self) -> list[CellSpec]:
        """Expand into cells; raises UserError for anything unknown or impossible."""
        import strategies
        import suites

        suite = suites.get(self.suite)
        selectors = self.strategies
        if "all" in selectors:
            selectors = tuple(dict.fromkeys([*strategies.names(), *(s for s in selectors if s != "all")]))
        found: dict[str, CellSpec] = {}
        for scenario in self.scenarios:
            if scenario not in SCENARIOS:
                raise unknown("scenario", scenario, list(SCENARIOS))
            if scenario not in suite.scenarios:
                has = ", ".join(suite.scenarios)
                raise UserError(f"suite {suite.name} has no {scenario} scenario; it has: {has}")
            for selector in selectors:
                for seed in self.seeds:
                    cell = self._cell(suite, scenario, selector, seed)
                    found.setdefault(cell.key, cell)
        return list(found.values())

    def shared(self) -> dict[str, dict[str, Any]]:
        """Return what all cells of a suite and scenario have in common, for the manifest."""
        import suites
        from bench import models

        suite = suites.get(self.suite)
        model, options, settings = self._settings(suite)
        facts = {"version": suite.version, "model": model, **models.options(model), **options}
        if self.exported:
            facts = {k: v for k, v in facts.items() if k != "model"} | {"continues": self.exported.mark}
        return {
            f"{self.suite}/{scenario}": facts | recorded(suite.training_for(scenario, settings))  # type: ignore[arg-type]
            for scenario in self.scenarios
        }

    def _cell(self, suite: Suite, scenario: str, selector: str, seed: int) -> CellSpec:
        import strategies
        from bench import models

        model, model_options, settings = self._settings(suite)
        base = suite.training_for(scenario, settings)  # type: ignore[arg-type]
        options = models.options(model) | model_options
        chosen = [Choice.of(text, scenario, model) for text in strategies.split(selector)]
        own_training = {k: v for c in chosen for k, v in c.training.items()}
        own_options = {k: v for c in chosen for k, v in c.model_options.items()}
        training = {k: as_annotated(k, v) for k, v in (asdict(base) | own_training).items()}
        check_training(training)
        training = recorded(Training(**training))
        models.check(model, options | own_options)
        if self.exported:
            self.exported.check(options | own_options)
        # What differs from the defaults, each part's own in its brackets, all else in the first's.
        shared = {k: v for k, v in own_training.items() if v != getattr(base, k)}
        shared |= {k: v for k, v in own_options.items() if v != options[k]}
        words = [identity(c.name, c.differing() | (shared if c is chosen[0] else {})) for c in chosen]
        name = "+".join(c.name for c in chosen)
        strategies.get(name)
        return CellSpec(
            suite=self.suite,
            suite_version=suite.version,
            scenario=scenario,
            strategy=name,
            hyper={k: v for c in chosen for k, v in (c.in_sum() if len(chosen) > 1 else c.hyper).items()},
            model=model,
            model_options=options | own_options,
            training=training,
            seed=seed,
            identity="+".join(words),
            continues=self.exported.mark if self.exported else "",
        )

    def _settings(self, suite: Suite) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Sort ``--set`` into the model, its options and the training settings."""
        from bench import models

        settings = dict(self.settings)
        if self.exported and "model" in settings:
            raise UserError("--resume-from names the model: it does not go with another")
        model = self.exported.name if self.exported else settings.pop("model", suite.model)
        known, known_training = models.options(model), [f.name for f in fields(Training)]
        options: dict[str, Any] = dict(suite.model_options) if model == suite.model else {}
        training = {}
        if model != suite.model and models.reads_texts(model):
            # How much of a text is read, and whether more than a head learns, is the suite's to say.
            options = {k: v for k, v in suite.model_options.items() if k in ("max_tokens", "tune")}
        if self.exported:
            options = dict(self.exported.options)
        for key, text in settings.items():
            if key in known:
                options[key] = convert(f"model {model}: {key}", text, models.option_type(model, key))
            elif key in known_training:
                training[key] = training_value(key, text)
            else:
                raise unknown("setting", key, [*known_training, *known, "model"])
        return model, options, training
