"""Sizes the methods of a request to its budget, or gives the reason why one cannot be.

Under a budget every method gets as much as it can use: the largest size that fits, not the nearest to its
default. The value found is in the cell's settings and identity, ``er[buffer=312]``; the budget itself is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import count
from typing import Any, get_type_hints

import strategies
from bench.plan.budget import Budget, size_in_words
from bench.plan.cell import CellSpec
from bench.plan.request import Request
from bench.plan.selectors import parse
from suites.base import Training
from suites.bracketed import identity
from suites.errors import UserError, some
from suites.registry import NotImported
from suites.values import taken_apart, text_of


@dataclass(frozen=True)
class Stored:
    """The memory of a lane at the end of its stream, of the seed for which it is largest."""

    rows: int
    """Rows of data."""
    bytes: int
    """All bytes, as ``memory_bytes`` of a record."""
    of: int
    """Training rows in the stream, of the seed that has the fewest."""


StoredBy = Callable[[CellSpec, Sequence[int]], Stored | str | None]
"""Returns what lanes of a cell with these seeds store, the reason why its method cannot learn the suite, or
None if the data is not available."""


@dataclass
class Fitted:
    """A request whose methods have sizes."""

    request: Request
    too_large: dict[str, str] = field(default_factory=dict)
    """Why methods do not fit, by the key of their cells, which keep their settings."""
    identities: dict[str, None] = field(default_factory=dict)
    """The methods that were sized, with their sizes."""

    def remarks(self) -> list[str]:
        """Return a line on the methods that were sized; their cells are listed with their sizes."""
        sized = some([*self.identities], _SHOWN)
        return [f"sized to {self.request.budget}: {sized}"] if sized else []


def fitted(request: Request, stored: StoredBy) -> Fitted:
    """Return a request with its methods sized to its budget.

    Without a budget, and if it has sizes already, it is the request itself.

    Raises:
        UserError: A selector sets what the budget sizes.
    """
    found = Fitted(request)
    if request.budget is None or request.not_imported or request.sized:
        return found
    sized: dict[tuple[str, str], str] = {}
    for scenario in request.kinds:
        for selector in request.listed:
            try:
                of_selector = {
                    text: _Sizing(request, request.budget, scenario, text, stored)
                    for text in request.expand(selector)[1]
                }
            except NotImported:
                continue  # the request names it as unresolved
            for text, one in of_selector.items():
                if one.reason is None:
                    sized[scenario, text] = one.text
                    if one.text != text:
                        found.identities[one.cell.identity] = None
                else:
                    as_asked = request.cell_of(scenario, text)  # whatever another budget has sized
                    cells = (replace(as_asked, seed=seed) for seed in request.seeds)
                    found.too_large |= dict.fromkeys((cell.key for cell in cells), one.reason)
    found.request = replace(request, sized=sized)
    return found


_SHOWN = 6


class NoData(Exception):
    """The data of the suite, from which sizes follow, is not available."""


class _Sizing:
    """One method in one scenario: ``text`` is its selector with the sizes found, ``reason`` why none."""

    def __init__(self, request: Request, budget: Budget, scenario: str, text: str, stored: StoredBy) -> None:
        self.request, self.scenario, self.text = request, scenario, text
        self.stored = cache(lambda text: stored(self._cell(text), request.seeds))
        self.given = [parse(part) for part in strategies.split(text)]
        self.cls = strategies.get("+".join(name for name, _ in self.given))
        self.reason: str | None = None
        cell = self.cell
        unsuitable = self.cls(**cell.hyper).unsuitable(scenario, Training(**cell.training))
        # Bounds are not compared, and have no budget.
        if unsuitable is None and self.cls.trains_on == "task":
            if budget.memory is not None:
                self._fit_memory(budget.memory)
            if budget.compute is not None and self.reason is None:
                self._fit_compute(budget.compute)

    @property
    def cell(self) -> CellSpec:
        """The cell of seed 0 with the sizes found so far."""
        return self._cell(self.text)

    def _cell(self, text: str) -> CellSpec:
        return self.request.cell_of(self.scenario, text)

    @cached_property
    def _places(self) -> dict[str, tuple[int, str]]:
        """The part that has each hyper-parameter, and its name there."""
        from strategies.core import defaults  # not at the top: reports need no torch

        names = [strategies.get(part).name for part, _ in self.given]
        return {
            key if len(names) == 1 else strategies.field_name(name, key): (number, key)
            for number, name in enumerate(names)
            for key in defaults(strategies.get(self.given[number][0]))
        }

    def _with(self, name: str, value: int) -> str:
        """Return the selector with a setting added: in the brackets of its part, or of the first."""
        parts = strategies.split(self.text)
        place, key = self._places.get(name, (0, name))
        own, options = parse(parts[place])
        parts[place] = identity(own, options | {key: value})
        return "+".join(parts)

    def _named(self, kind: str) -> str | None:
        """Return the hyper-parameter that a budget sizes; raises UserError if the selector sets it."""
        name: str | None = self.cls.sized_by.get(kind)
        if name is not None:
            if name not in self._places or self._hint(name)[0] is not int:
                raise UserError(
                    f"{self.cls.name}: sized_by names {name} for {kind}, which is no hyper-parameter "
                    "that is a whole number"
                )
            place, key = self._places[name]
            if key in self.given[place][1]:
                raise UserError(f"{self.text}: the budget of {kind} sets {key}: leave it out")
        return name

    def _low(self, name: str) -> int:
        """Return the smallest size: 1, or the lower bound of the field."""
        return max(1, int(getattr(self._hint(name)[1], "low", None) or 1))

    def _hint(self, name: str) -> tuple[Any, Any]:
        """Return the type of a hyper-parameter and its bounds."""
        return taken_apart(get_type_hints(self.cls, include_extras=True)[name])

    def _fit_memory(self, most: int) -> None:
        name, usual = self._named("memory"), self._stored(self.text)
        if isinstance(usual, str):
            return  # its cells are skipped with this reason
        if name is None:
            if usual.bytes > most:
                self.reason = (
                    f"it stores {size_in_words(usual.bytes)}, more than the budget of {size_in_words(most)}, "
                    "and none of its hyper-parameters sizes its memory"
                )
            return

        def fits(value: int) -> bool:
            found = self._stored(self._with(name, value))
            # Too few rows for its classes: smaller than any that fits.
            return isinstance(found, str) or (found.bytes <= most and found.rows <= found.of)

        low = self._low(name)
        best = _largest(fits, low, int(getattr(self.cls(**self.cell.hyper), name)))
        found = None if best is None else self._stored(self._with(name, best))
        if best is None or not isinstance(found, Stored):
            least = low if best is None else best + 1
            found = self._stored(self._with(name, least))
            size = "" if isinstance(found, str) else f", and stores {size_in_words(found.bytes)} with that"
            self.reason = (
                f"it needs {name}={least} or more{size}: more than the budget of {size_in_words(most)}"
            )
        elif found != usual:
            self.text = self._with(name, best)

    def _stored(self, text: str) -> Stored | str:
        found = self.stored(text)
        if found is None:
            raise NoData
        return found

    def _fit_compute(self, most: float) -> None:
        """Set the hyper-parameter, or else the number of epochs, to the most passes within the budget."""
        name, cell = self._named("compute"), self.cell
        new = Training(**cell.training).batch
        usual = Training(**self.request.cell_of(self.scenario, "finetune").training)
        kind = "iterations" if usual.iterations else "epochs"

        def passes(cell: CellSpec) -> float:
            cost = float(self.cls(**cell.hyper).step_cost(new))
            own, whole = getattr(Training(**cell.training), kind), getattr(usual, kind)
            times = 1.0 if self.cls.one_pass else own / whole
            return cost * times * (new / usual.batch if kind == "iterations" else 1)

        def with_(name: str, value: int) -> CellSpec:
            return self._cell(self._with(name, value))

        def fits(name: str) -> Callable[[int], bool]:
            return lambda value: passes(with_(name, value)) <= most * (1 + 1e-9)

        if self.cls.cost == 0:
            self.reason = "it trains at the end of tasks, which its cost of a step does not count"
            return
        now = passes(cell)
        for key in filter(None, (name, None if self._own(kind) or self.cls.one_pass else kind)):
            low = 1 if key == kind else self._low(key)
            grows = key == kind or passes(with_(key, low)) <= passes(with_(key, low + 1000))
            best = _largest(fits(key), low, low) if grows else _smallest(fits(key), low)
            if best is not None:
                if abs(passes(with_(key, best)) - now) > 1e-9:
                    self.text = self._with(key, best)
                return
        if now > most * (1 + 1e-9):
            self.reason = (
                f"it takes {now:.3g} times the passes of finetune, more than the budget of {text_of(most)}"
                f"{f', whatever {name}' if name else ''}"
            )

    def _own(self, key: str) -> bool:
        return any(key in options for _, options in self.given)


_MOST = 10**7


def _largest(fits: Callable[[int], bool], low: int, start: int) -> int | None:
    """Return the largest whole number from ``low`` on that fits, None if ``low`` does not."""
    if not fits(low):
        return None
    good, bad = low, max(low + 1, start)
    while fits(bad):
        good, bad = bad, 2 * bad
        if good > _MOST:
            return good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _smallest(fits: Callable[[int], bool], low: int) -> int | None:
    """Return the smallest whole number from ``low`` on that fits, None if none does."""
    good = next((low * 2**n for n in count() if low * 2**n > _MOST or fits(low * 2**n)), low)
    if good > _MOST:
        return None
    bad = good // 2 if good > low else low - 1
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
