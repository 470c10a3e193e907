"""``python -m bench.report.embed FILE.md ...``: tables and figures of documents, made from records.

In a document stand

    <!-- lethe:table RUN [SCENARIO] [SCORE,SCORE] -->
    ...                       replaced by the table
    <!-- lethe:end -->

    <!-- lethe:figure RUN NAME [SCENARIO] FILE.svg -->      writes the figure to FILE.svg

with paths from the folder of the document. ``--check`` changes nothing and fails where a table differs.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

from bench.frames import Frames, load
from bench.report.figures import FIGURES, STYLE, Looks, parts
from bench.report.tables import markdown
from suites.base import SCENARIOS

_TABLE = re.compile(r"(<!-- lethe:table (?P<words>[^>]*) -->\n)(?P<body>.*?)(<!-- lethe:end -->)", re.DOTALL)
_FIGURE = re.compile(r"<!-- lethe:figure (?P<words>[^>]*) -->")


def renewed(text: str, folder: Path) -> str:
    """Return a document with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        run, *options = match["words"].split()
        scenario = next((o for o in options if o in SCENARIOS), None)
        scores = next((o.split(",") for o in options if o not in SCENARIOS), None)
        return f"{match[1]}\n{markdown(_only(load(folder / run), scenario), scores)}\n{match[4]}"

    return _TABLE.sub(table, text)


def draw(text: str, folder: Path) -> list[Path]:
    """Write the figures a document names; return their files."""
    written = []
    for match in _FIGURE.finditer(text):
        run, name, *scenario, file = match["words"].split()
        frames = load(folder / run)
        looks = Looks.of(sorted(frames.cells["identity"].unique()))
        for _, _, part in parts(_only(frames, scenario[0] if scenario else None)):
            made = FIGURES[name](part, looks)
            if made is not None:
                with mpl.rc_context(fname=STYLE):
                    made[0].savefig(folder / file, metadata={"Date": None}, facecolor="white")
                written.append(folder / file)
    return written


def _only(frames: Frames, scenario: str | None) -> Frames:
    """Return the cells of one scenario."""
    if scenario is None:
        return frames
    chosen = {
        name: getattr(frames, name)[getattr(frames, name)["scenario"] == scenario]
        for name in ("cells", "scores", "matrix", "curves")
    }
    return replace(frames, **chosen)


def main(words: list[str]) -> int:
    """Renew documents; with ``--check`` return 1 where one is not as its records say."""
    stale = []
    for path in (Path(w) for w in words if w != "--check"):
        before = path.read_text()
        after = renewed(before, path.parent)
        if "--check" in words:
            stale += [path] if after != before else []
            continue
        path.write_text(after)
        for figure in draw(after, path.parent):
            print(figure)
    for path in stale:
        print(f"{path} is not what its records say: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
