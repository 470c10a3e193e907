"""The commands ``pack`` and ``unpack``: a run in one file."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Json, app
from bench.cli.output import print_json


@app.command(epilog="Example: lethe pack results/runs/first")
def pack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="By default RUN.lethe.gz.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack the records of a run into one file, which status, report and load read like the folder.

    Checkpoints, saved models and superseded records are left out; the folder is not changed.
    """
    from bench.store import RunReader, n_superseded, pack_run

    target = pack_run(run, file)
    packed = RunReader(target)
    n_cells, n_missing = len(packed.statuses()), len(packed.manifest().cells.keys() - packed.statuses())
    if as_json:
        size = target.stat().st_size
        print_json({"file": target, "cells": n_cells, "bytes": size, "missing": n_missing})
        return
    missing = f"; {n_missing} of the run's cells have no record yet" if n_missing else ""
    n_old = n_superseded(run)
    left_out = f"; {n_old} superseded records are left out" if n_old else ""
    print(f"{target}: {n_cells} cells, {target.stat().st_size / 1e3:,.0f} kB{missing}{left_out}")


@app.command(epilog="Example: lethe unpack results/reference/digits.lethe.gz results/runs/digits")
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A packed run.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="A new folder; by default FILE without its suffix.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Unpack a run into a folder, so that lethe run can continue it."""
    from bench.store import unpack_run

    made = unpack_run(file, folder)
    if as_json:
        print_json({"run": made})
    else:
        print(f"{made}: lethe run ... --out continues it")
