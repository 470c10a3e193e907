"""What the page shows under the pointer: the strategy of a line, point or bar, and its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from bench.report.formats import plus_minus, points


@dataclass(frozen=True)
class Tip:
    """What a part of a figure shows."""

    series: str
    """The strategy."""
    texts: tuple[str, ...]
    """A text for each of its points, or none."""


class Drawing(Figure):
    """A figure with what its parts show."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.tips: dict[str, Tip] = {}
        """By the identifier of the part in the SVG."""


def tip(drawn: object, series: str, texts: Iterable[str] = ()) -> None:
    """Describe an artist, or all artists of a container, as part of a series; a line has a text per point."""
    texts = tuple(texts)
    if isinstance(drawn, Sequence):
        for part in drawn:
            tip(part, series, texts)
    elif isinstance(drawn, Artist):
        figure = drawn.get_figure(root=True)
        if isinstance(figure, Drawing):
            name = f"series-{len(figure.tips)}"
            drawn.set_gid(name)
            figure.tips[name] = Tip(series, texts)


def with_half(mean: float, half: float) -> str:
    """Return a mean and the half-width of its interval as tables have it."""
    return points(mean) + plus_minus(half)
