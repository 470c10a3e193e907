"""Everything a report holds, into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.frames import Frames
from bench.report.figures import make_figures
from bench.report.tables import markdown, summary
from suites.errors import UserError


def make_report(frames: Frames, folder: Path, scores: Sequence[str] | None = None) -> Path:
    """Write table.md, table.csv and figures/; return the folder.

    Raises UserError for an unknown score and for a folder that cannot be written.
    """
    text, table = markdown(frames, scores), summary(frames, scores)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(text)
        table.to_csv(folder / "table.csv", index=False)
        make_figures(frames, folder / "figures")
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    return folder
