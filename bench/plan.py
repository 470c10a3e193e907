"""What was asked for: selectors and settings, checked, and expanded into cells, each with its key.

A selector names a strategy and what differs from its defaults: ``er[buffer=200,lr=0.05]``. In the brackets
stand the strategy's hyper-parameters, the training settings of suites.base.Training and the options of the
model; ``ewc[preset=vandeven2022]`` takes a paper's recipe, ``er+lwf`` is the sum of two methods.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from bench.exported import Exported
from suites.base import SCENARIOS, Suite, Training
from suites.errors import UserError, unknown

if TYPE_CHECKING:
    from strategies.base import Strategy

Value = int | float | str | bool

LANES = ("lr", "weight_decay")
"""Training settings that can differ between lanes."""
_POSITIVE = ("batch", "lr")
_NOT_NEGATIVE = ("epochs", "iterations", "weight_decay", "score_every", "shots", "rows_per_class")
_ADDED = ("shots", "rows_per_class")
"""Training settings that came later: left out of specs while 0, so that older cells keep their keys."""
_MOST_SEEDS = 10_000
_SELECTOR = re.compile(r"^(?P<name>[^\[\]]+?)(\[(?P<options>[^\[\]]*)\])?$")


@dataclass(frozen=True)
class CellSpec:
    """One suite, scenario, strategy, setting and seed: all that changes a cell's result."""

    suite: str
    suite_version: int
    scenario: str
    strategy: str
    hyper: dict[str, Value]
    """The strategy's hyper-parameters, defaults included."""
    model: str
    model_options: dict[str, Any]
    training: dict[str, Any]
    """The fields of suites.base.Training."""
    seed: int
    identity: str
    """The selector in its canonical form; follows from the rest, so it is not part of the key."""
    continues: str = ""
    """Hash of the exported model that learning goes on from, which ``model`` is the folder of; see
    bench.continuing. It stands for the folder in the key, which a move must not change; empty for none, and
    then left out, so that older cells keep their keys."""

    @cached_property
    def key(self) -> str:
        """Name of the cell on disk: a hash of all that changes its result."""
        passed_over = ("identity", "model" if self.continues else "continues")
        # Not asdict, which copies everything: reports hash ten thousand cells.
        return _digest({f.name: getattr(self, f.name) for f in fields(self) if f.name not in passed_over})

    @cached_property
    def group_key(self) -> str:
        """What cells must share to run as lanes of one program."""
        import strategies

        facts = asdict(self)
        lanes = strategies.get(self.strategy).lane_fields()
        facts["hyper"] = {k: v for k, v in self.hyper.items() if k not in lanes}
        facts["training"] = {k: v for k, v in self.training.items() if k not in LANES}
        return _digest({k: v for k, v in facts.items() if k not in ("identity", "seed")})

    def facts(self) -> dict[str, Any]:
        """Return the spec as records hold it."""
        return {k: v for k, v in asdict(self).items() if v or k != "continues"}


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


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
        training = {k: _as_annotated(k, v) for k, v in (asdict(base) | own_training).items()}
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


@dataclass(frozen=True)
class Choice:
    """One method of a selector, with what stands in its brackets sorted by what it belongs to."""

    name: str
    hyper: dict[str, Value]
    """Hyper-parameters, defaults included."""
    training: dict[str, Value]
    model_options: dict[str, Any]

    @classmethod
    def of(cls, text: str, scenario: str, model: str) -> Choice:
        """Read ``name[key=value,...]``; ``preset`` stands for a method's named recipe.

        Raises UserError for a method, a key, a value or a preset that is not there.
        """
        import strategies
        from bench import models

        name, given = parse(text)
        strategy = strategies.get(name)
        try:
            hyper = asdict(strategy())
        except TypeError as error:
            raise UserError(f"{name}: every hyper-parameter needs a default ({error})") from None
        hints = get_type_hints(strategy, include_extras=True)
        known_training, known_options = [f.name for f in fields(Training)], models.options(model)
        training: dict[str, Value] = {}
        options: dict[str, Any] = {}
        recipe = _preset(strategy, given.pop("preset"), scenario) if "preset" in given else {}
        for key, value in (recipe | given).items():
            if key in hyper:
                hyper[key] = convert(f"{name}: {key}", value, hints[key])
            elif key in known_training:
                training[key] = training_value(key, value)
            elif key in known_options:
                options[key] = convert(f"model {model}: {key}", value, models.option_type(model, key))
            else:
                known = [*hyper, *known_training, *known_options, *(["preset"] if strategy.presets else [])]
                raise unknown(f"hyper-parameter of {name}", key, known)
        return cls(name, hyper, training, options)

    def differing(self) -> dict[str, Value]:
        """Return the hyper-parameters that are not at their defaults."""
        import strategies

        defaults = asdict(strategies.get(self.name)())
        return {k: v for k, v in self.hyper.items() if v != defaults[k]}

    def in_sum(self) -> dict[str, Value]:
        """Return the hyper-parameters under the names they have in a composed strategy."""
        import strategies

        return {strategies.field_name(self.name, k): v for k, v in self.hyper.items()}


def _preset(strategy: type[Strategy], name: str, scenario: str) -> dict[str, str]:
    """Return the values of a named recipe as text; raises UserError where it has none for the scenario."""
    if not strategy.presets:
        raise UserError(f"{strategy.name} has no presets")
    if name not in strategy.presets:
        raise unknown(f"preset of {strategy.name}", name, list(strategy.presets))
    chosen: dict[str, str] = {}
    for key, value in strategy.presets[name].items():
        if isinstance(value, dict):
            if scenario not in value:
                has = ", ".join(value)
                raise UserError(f"{strategy.name}: preset {name} has no {key} for {scenario}; it has: {has}")
            value = value[scenario]
        chosen[key] = text_of(value)
    return chosen


def parse(selector: str) -> tuple[str, dict[str, str]]:
    """Take ``name[key=value,...]`` apart; raises UserError where it is not of that form."""
    match = _SELECTOR.match(selector.strip())
    if match is None:
        raise UserError(f"cannot read {selector!r}; a strategy is written like er or er[buffer=200,lr=0.05]")
    options: dict[str, str] = {}
    for part in filter(None, (match["options"] or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UserError(f"cannot read {part!r} in {selector!r}; options are written like buffer=200")
        if key.strip() in options:
            raise UserError(f"{key.strip()} stands twice in {selector!r}")
        options[key.strip()] = value.strip()
    return match["name"], options


def identity(name: str, options: dict[str, Any]) -> str:
    """Return the canonical selector: options sorted, numbers in their shortest form."""
    if not options:
        return name
    return f"{name}[{','.join(f'{k}={text_of(options[k])}' for k in sorted(options))}]"


def text_of(value: Value) -> str:
    """Return a value as a selector writes it: 1e9 and 1e-05, never a plus sign, which joins strategies."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return (short if float(short) == value else repr(value)).replace("e+", "e").replace("e0", "e")


def convert(what: str, text: Any, hint: Any) -> Value:
    """Turn text into the type of a field and check its bounds; raises UserError naming the field."""
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)[:2]
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise unknown(f"value for {what}", str(text), list(get_args(hint)))
        return str(text)
    if hint is bool:
        words = {"true": True, "false": False}
        if str(text).lower() not in words:
            raise UserError(f"{what} must be true or false, not {text!r}")
        return words[str(text).lower()]
    if hint is str:
        return str(text)
    if hint not in (int, float):
        raise UserError(f"{what} cannot be set: it is neither a number, true or false, nor text")
    try:
        value: int | float = int(str(text)) if hint is int else float(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"{what} must be {kind}, not {text!r}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{what} must be finite, not {text!r}")
    if bounds is not None and bounds.low is not None and value < bounds.low:
        raise UserError(f"{what} must be at least {text_of(bounds.low)}, not {text}")
    if bounds is not None and bounds.high is not None and value > bounds.high:
        raise UserError(f"{what} must be at most {text_of(bounds.high)}, not {text}")
    return value


def training_value(key: str, text: Any) -> Value:
    """Return a training setting from text."""
    return convert(key, text, get_type_hints(Training)[key])


def recorded(training: Training) -> dict[str, Any]:
    """Return training settings as specs and manifests hold them."""
    return {k: v for k, v in asdict(training).items() if v or k not in _ADDED}


def _as_annotated(key: str, value: Any) -> Any:
    """Return a training setting as its field's type: a suite's ``lr=1`` is the same setting as 1.0."""
    return float(value) if get_type_hints(Training)[key] is float else value


def check_training(training: dict[str, Any]) -> None:
    """Raise UserError for training settings out of range."""
    for key in _POSITIVE:
        if training[key] <= 0:
            raise UserError(f"{key} must be above 0, not {training[key]}")
    for key in _NOT_NEGATIVE:
        if training[key] < 0:
            raise UserError(f"{key} must not be below 0, not {training[key]}")
    if not 0 <= training["validation"] < 1:
        raise UserError(f"validation must be in [0, 1), not {training['validation']}")
    if training["epochs"] == 0 and training["iterations"] == 0:
        raise UserError("epochs or iterations must be above 0")


def seeds(text: str) -> tuple[int, ...]:
    """Read seeds: ``5`` is 0 to 4, ``2-6`` is 2 to 6, ``1,4`` is those two.

    Raises UserError for anything else.
    """
    found: list[int] = []
    try:
        parts = [f"0-{int(text) - 1}"] if text.isdigit() else text.split(",")
        for part in parts:
            first, dash, last = part.strip().partition("-")
            start, stop = int(first), int(last if dash else first) + 1
            if stop - start > _MOST_SEEDS:  # --seeds 20260101 meant one seed, not twenty million
                raise UserError(f"seeds {text} are too many: {stop - start:,}; one seed is written like 7-7")
            found += range(start, stop)
    except ValueError:
        found = []
    return check_seeds(found, text)


def check_seeds(found: Sequence[int], text: object) -> tuple[int, ...]:
    """Return seeds, each once and from 0 up; raises UserError, which quotes ``text``, for anything else."""
    whole = [s for s in found if isinstance(s, int) and not isinstance(s, bool) and s >= 0]
    if not found or len(set(whole)) != len(found):
        raise UserError(f"cannot read seeds {str(text)!r}; write 5 (0 to 4), 2-6 or 1,4")
    return tuple(whole)


def read_toml(path: Path) -> tuple[list[Request], dict[str, Any]]:
    """Read an experiment: ``[[run]]`` tables and, above them, ``out``: the run's folder, if it is named here.

    A table has ``suite``, ``strategies`` and, where wanted, ``scenarios``, ``seeds`` (as on the command line,
    or a list) and ``set``::

        out = "results/runs/first"

        [[run]]
        suite = "digits"
        strategies = ["finetune", "er[buffer=200]"]
        scenarios = ["task", "class"]
        seeds = 5
        [run.set]
        epochs = 2

    Raises UserError for a file that is missing or of another form.
    """
    try:
        facts = tomllib.loads(path.read_text())
    except OSError:
        raise UserError(f"cannot read {path}") from None
    except ValueError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    tables = facts.pop("run", None)
    if not isinstance(tables, list) or not tables:
        raise UserError(f"{path} has no [[run]] table")
    for key in facts:
        if key != "out":
            raise unknown(f"key in {path}", key, ["out", "run"])
    if not isinstance(facts.get("out", ""), str):
        raise UserError(f"out in {path} must be the name of a folder")
    return [_request(path, table) for table in tables], facts


def _request(path: Path, table: Any) -> Request:
    """Return what one ``[[run]]`` table asks for; raises UserError for a table of another form."""
    where = f"a [[run]] table of {path}"
    known = ["suite", "strategies", "scenarios", "seeds", "set"]
    if not isinstance(table, dict):
        raise UserError(f"run in {path} must be written as [[run]] tables")
    for key in table:
        if key not in known:
            raise unknown(f"key in {where}", key, known)
    if "suite" not in table or not table.get("strategies"):
        raise UserError(f"{where} lacks suite or strategies")
    if not isinstance(table["suite"], str):
        raise UserError(f"suite in {where} must be a name")
    for key in ("strategies", "scenarios"):
        names = table.get(key, ["class"])
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise UserError(f"{key} in {where} must be a list of names")
    chosen, settings = table.get("seeds", 5), table.get("set", {})
    if not isinstance(settings, dict) or not all(isinstance(v, int | float | str) for v in settings.values()):
        raise UserError(f"set in {where} must hold a number, text, true or false for each setting")
    return Request(
        suite=table["suite"],
        strategies=tuple(table["strategies"]),
        scenarios=tuple(table.get("scenarios", ["class"])),
        seeds=check_seeds(chosen, chosen) if isinstance(chosen, list) else seeds(str(chosen)),
        settings={k: text_of(v) for k, v in settings.items()},
    )
