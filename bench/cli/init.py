"""The command ``init``: files to start from."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.app import Json, app
from bench.cli.output import print_json
from suites import errors

TEMPLATES: dict[str, tuple[str, ...]] = {
    "table": ("table.toml",),
    "images": ("images.toml",),
    "network": ("network.toml", "net.py"),
    "protocol": ("protocol.toml",),
}
"""The files of each template; the first is the experiment file."""
FOLDER = Path(__file__).parent / "templates"


@app.command(epilog="Examples: lethe init network | lethe init network --to experiments/mine")
def init(
    template: Annotated[str, typer.Argument(help=f"One of: {', '.join(TEMPLATES)}.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the files.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a commented experiment file to start from, with the files that it needs."""
    if template not in TEMPLATES:
        raise errors.unknown("template", template, list(TEMPLATES))
    files = {to / name: (FOLDER / name).read_text(encoding="utf-8") for name in TEMPLATES[template]}
    if there := next((path for path in files if path.exists()), None):
        raise errors.UserError(f"{there} exists already: choose another folder with --to")
    try:
        to.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise errors.UserError(f"cannot write into {to}: {error.strerror}") from error
    if as_json:
        print_json({"files": [*files]})
        return
    first, *others = files
    print(f"{first}{''.join(f', {path}' for path in others)}: edit, then lethe run {first.name} --dry-run")
