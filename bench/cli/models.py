"""The commands ``export`` and ``predict`` for trained models."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.app import Json, Trust, app
from bench.cli.output import print_json
from suites import errors


@app.command(
    epilog="Examples: lethe export results/runs/first er/0 models/er | lethe export results/runs/first 3f9c "
    "models/first --task 1"
)
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run made with --keep-models.")],
    cell: Annotated[str, typer.Argument(help="Key of a cell, the start of it, or strategy/seed: 'er/0'.")],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the model.")],
    task: Annotated[
        int | None, typer.Option(help="Model after this many tasks; by default the last.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export the trained model of a cell into a new folder, for predictions and further training."""
    from bench.export import find, save, served

    model = served(folder, find(folder, cell), task)
    save(model, to)
    origin, tasks = model.header.origin, model.header.tasks
    if as_json:
        about = {"cell": origin.cell, "tasks_done": origin.tasks_done, "n_tasks": origin.tasks}
        print_json({"model": to, **about, "labels": model.labels, "tasks": tasks})
        return
    print(f"{to}: {origin.cell}, after {origin.tasks_done} of {origin.tasks} tasks")
    kind, names = ("tasks", list(tasks)) if tasks else ("labels", list(model.labels))
    print(f"{len(names)} {kind}: {', '.join(names[:12])}{', ...' * (len(names) > 12)}")
    print(f"how to load it: {to / 'README.md'}")


@app.command(
    epilog="Examples: lethe predict models/er 'a sentence' 'another' | lethe predict models/er "
    "--file rows.csv --column text --out answers.csv | lethe predict models/m30k 'a dog' --task en-de"
)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an exported model.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Sentences.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts in CSV, or images in .npy (N, C, H, W).")] = None,
    column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    task: Annotated[str, typer.Option(help="Task of a model that generates text: 'en-de'.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write a CSV file instead of lines.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Predict with an exported model: a line for each input, label and probability or the generated text."""
    from bench.export import Exported, predict_files as rows

    exported = Exported.at(folder)
    reads_texts = exported.reads_texts
    if bool(texts) == (file is not None):
        raise errors.UserError("give either sentences or --file")
    if texts and not reads_texts:
        raise errors.UserError(f"{folder} reads images, not sentences: use --file images.npy")
    given: Any = texts
    if file is not None:
        given = rows.read_texts(file, column) if reads_texts else rows.read_images(file)
    from bench.export import Predictor

    model = Predictor.load(folder, trust=trust)
    asked = model.asked(given, task) if reads_texts or task else given
    if reads_texts and (cut := model.cut(asked)):
        most = model.max_tokens
        print(f"{cut} of {len(given)} texts cut at {most} tokens", file=sys.stderr)
    what, first = ("text", given) if reads_texts else ("row", range(len(given)))
    columns = ["written"] if exported.writes else ["label", "probability"]
    answers = [[text] for text in model.written(asked)] if exported.writes else model.answers(asked)
    if as_json and out is None:
        named = (dict(zip(columns, answer, strict=True)) for answer in answers)
        print_json([{what: x} | answer for x, answer in zip(first, named, strict=True)])
        return
    digits = 4 if out is None else 6
    words = [[f"{v:.{digits}f}" if isinstance(v, float) else v for v in answer] for answer in answers]
    if out is None:
        for line in words:
            print("\t".join(line).replace("\n", " "))  # one line for each input
        return
    rows.write_answers(out, [what, *columns], ([x, *line] for x, line in zip(first, words, strict=True)))
    if as_json:
        print_json({"predictions": len(answers), "file": out})
    else:
        print(f"{len(answers)} predictions: {out}")
