"""The command ``lethe``: thin; whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from suites import errors

app = typer.Typer(
    help="Lethe measures what a model forgets: continual-learning strategies over task streams.",
    epilog="Example: lethe run digits -s finetune -s er --seeds 5 --out results/runs/first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets are options of a strategy here, not markup
)


def main() -> None:
    """Run the command; what the user asked for and cannot be is one line and exit code 2."""
    try:
        app()
    except errors.UserError as error:
        print(f"lethe: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader has seen enough: `lethe list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(wanted: bool) -> None:
    if wanted:
        from bench import __version__

        print(f"lethe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("list", epilog="Example: lethe list strategies --json")
def list_(
    kind: Annotated[str, typer.Argument(help="suites, strategies, models or scores; all without it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what there is, a line each."""
    from bench.catalogue import KINDS, entries

    if kind and kind not in KINDS:
        raise errors.unknown("kind", kind, list(KINDS))
    found = {k: entries(k) for k in ([kind] if kind else KINDS)}
    if as_json:
        rows = {k: [{"name": e.name, "summary": e.summary, **e.facts} for e in es] for k, es in found.items()}
        print(json.dumps(rows[kind] if kind else rows, indent=1))
        return
    wide = max(len(e.name) for es in found.values() for e in es)
    for k, es in found.items():
        if not kind:
            print(f"{k}:")
        for e in es:
            print(f"{'' if kind else '  '}{e.name:<{wide}}  {e.summary}")


@app.command(epilog="Example: lethe show ewc")
def show(
    name: Annotated[str, typer.Argument(help="A suite, strategy, model or score.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one thing: its hyper-parameters with their help, its source and what it needs."""
    from dataclasses import asdict

    from bench.catalogue import find

    entry = find(name)
    if as_json:
        print(json.dumps(asdict(entry), indent=1))
        return
    print(f"{entry.name} ({entry.kind})\n\n{entry.facts.pop('about', entry.summary)}\n")
    for key, value in entry.facts.items():
        if value:
            print(f"{key.replace('_', ' ')}: {value}")
    if entry.options:
        titles = {"model": "options", "suite": "training (--set key=value)"}
        print(f"\n{titles.get(entry.kind, 'hyper-parameters')}:")
    for option in entry.options:
        print(f"  {option['name']} = {option['default']}  ({option['type']})")
        if option["help"]:
            print(f"      {option['help']}")


@app.command(
    epilog="Examples: lethe run digits -s er -s 'ewc[lam=100]' --scenario class --seeds 5 --out runs/a "
    "| lethe run digits -s all --seeds 10 --set epochs=5 --dry-run | lethe run experiment.toml"
)
def run(
    what: Annotated[str, typer.Argument(metavar="SUITE|FILE.toml", help="A suite, or an experiment.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option("-s", "--strategy", help="A strategy, 'er[buffer=200]', ./file.py:Class, or all."),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="task, domain, class, online; repeat or commas.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="5 (as without it) is 0 to 4; 2-6; 1,4.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: training, model, or an option of the model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="As --set model=NAME.")] = None,
    shots: Annotated[int | None, typer.Option(help="As --set shots=K.")] = None,
    rows_per_class: Annotated[int | None, typer.Option(help="As --set rows_per_class=K.")] = None,
    resume_from: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on learning from an exported model.")
    ] = None,
    keep_models: Annotated[
        str,
        typer.Option(metavar="last|all", help="Keep trained models: the last, or all tasks' of each cell."),
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core or GPU.")] = 0,
    lanes: Annotated[int, typer.Option(min=0, help="Lanes side by side at most; 0 for the fixed rule.")] = 0,
    data: Annotated[Path | None, typer.Option(help="A local mirror of the hub's files.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run; run nothing.")] = False,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Run what is not there (the default).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run every cell again.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed and diverged ones again.")
    ] = False,
) -> None:
    """Run the cells of a plan that are missing, and print the tables."""
    if only_missing and (force or retry_failed):
        raise errors.UserError("--only-missing does not go with --force or --retry-failed")
    _use_mirror(data)
    from bench import plan

    short = {"model": model, "shots": shots, "rows_per_class": rows_per_class}
    pairs = [*(settings or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    if what.endswith(".toml"):
        if strategy or scenario or pairs or seeds or resume_from:
            raise errors.UserError("an experiment file has its strategies, scenarios, seeds and --set in it")
        requests, options = plan.read_toml(Path(what))
        out = out or (Path(options["out"]) if "out" in options else None)
    else:
        if not strategy:
            raise errors.UserError("name at least one strategy with -s; lethe list strategies shows them")
        scenarios = tuple(s for part in scenario or ["class"] for s in part.split(","))
        chosen = plan.seeds("5" if seeds is None else seeds)
        resumed = "" if resume_from is None else str(resume_from)
        requests = [plan.Request(what, tuple(strategy), scenarios, chosen, _pairs(pairs), resumed)]
    if out is None and not dry_run:
        raise errors.UserError("name the run's folder with --out")
    how = {"device": device, "jobs": jobs, "lanes": lanes, "force": force, "retry_failed": retry_failed}
    _carry_out(requests, out, dry_run, keep_models=keep_models, **how)


def _use_mirror(data: Path | None) -> None:
    if data is not None:
        if not data.is_dir():
            raise errors.UserError(f"--data {data} is not a folder")
        os.environ["LETHE_DATA"] = str(data)


def _pairs(settings: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise errors.UserError(f"cannot read --set {text!r}; it is written like --set epochs=5")
        if key in pairs:
            raise errors.UserError(f"--set {key} stands twice")
        pairs[key] = value
    return pairs


def _carry_out(requests: list[Any], out: Path | None, dry_run: bool, **options: Any) -> None:
    if dry_run:
        from bench.runner import Options

        _dry_run(requests, out, Options(**options))
        return
    assert out is not None
    outcome = _run(requests, out, **options)
    from rich.console import Console

    from bench.frames import load
    from bench.report.tables import print_tables, tables

    print_tables(tables(load(out)), Console())
    for words in outcome.set_aside:
        print(words, file=sys.stderr)
    told = ", ".join(f"{n} {status}" for status, n in sorted(outcome.counts.items())) or "nothing to do"
    print(f"now: {told}. Figures and tables: lethe report {out}")
    if outcome.failures:
        print("\n".join(["failed:", *outcome.failures]), file=sys.stderr)
        raise typer.Exit(1)


def _run(requests: list[Any], out: Path, **options: Any) -> Any:
    """Carry out a plan; a stop by hand or by a batch system ends with code 130 and loses nothing."""
    from bench import runner

    command = shlex.join(["lethe", *sys.argv[1:]])
    # A batch system's SIGTERM ends a run as Ctrl-C does: workers are stopped, nothing is lost.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return runner.carry_out(requests, out, runner.Options(**options), command)
    except KeyboardInterrupt:
        print(f"\nlethe: stopped; what is done is in {out}, the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None


def _dry_run(requests: list[Any], out: Path | None, options: Any) -> None:
    from bench.runner import all_cells, common, unsuitable, wanted
    from bench.store import Run, line

    specs, shared = all_cells(requests), common(requests)
    run = None if out is None else Run(out, look_only=True)
    if run:
        run.check(shared)
    count = 0
    for spec in specs:
        status = run.status(spec) if run else "missing"
        to_run = wanted(status, options)
        reason = unsuitable(spec) if to_run else None
        count += to_run and reason is None
        state = "skip" if reason else "run" if to_run else status
        print(f"{state:<9} {line(spec)}{f': {reason}' if reason else ''}")
    print(f"{len(specs)} cells, {count} to run")
    for words in run.set_aside if run else ():
        print(words, file=sys.stderr)


@app.command(
    epilog="Examples: lethe verify three-types-split-mnist --seeds 20 | lethe verify three-types-split-mnist "
    "--only EWC --only LwF | lethe verify my_table.toml --out runs/mine"
)
def verify(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table's name, or a TOML file.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many, from the table's first on.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="A method of the table; repeat for more.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; results/reference/TABLE else.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core or GPU.")] = 0,
    lanes: Annotated[int, typer.Option(min=0, help="Lanes side by side at most; 0 for the fixed rule.")] = 0,
    data: Annotated[Path | None, typer.Option(help="A local mirror of the hub's files.")] = None,
    look_only: Annotated[bool, typer.Option("--look-only", help="Compare what is there.")] = False,
) -> None:
    """Run a published table's recipe and say, entry by entry, whether our numbers agree.

    Exit code 1 where one differs or could not be had.
    """
    _use_mirror(data)
    from bench import verify as published
    from bench.frames import load

    chosen = published.read(table)
    folder = out or published.RECORDS / chosen.name
    requests = chosen.requests(seeds, only or ())
    if not look_only:
        _run(requests, folder, device=device, jobs=jobs, lanes=lanes)
    verdicts = published.compare(chosen, load(folder), seeds, only or ())
    from rich.console import Console

    from bench.report.rows import print_rows

    print_rows(published.HEADER, published.rows(verdicts), Console(), published.caption(chosen))
    for verdict in verdicts:
        if verdict.entry.note:
            print(f"{verdict.entry.method}, {verdict.entry.scenario}: {verdict.entry.note}")
    agree = sum(v.agrees is True for v in verdicts)
    print(f"{agree} of {len(verdicts)} entries agree; records: {folder}")
    if agree < len(verdicts):
        raise typer.Exit(1)


@app.command(
    epilog="Examples: lethe export runs/a er/0 models/er | lethe export runs/a 3f9c models/first --task 1"
)
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A folder of a run with --keep-models.")],
    cell: Annotated[str, typer.Argument(help="A cell's key, the start of it, or strategy/seed: 'er/0'.")],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the model.")],
    task: Annotated[int | None, typer.Option(help="After how many tasks; the last kept without it.")] = None,
) -> None:
    """Write the trained model of one cell into a folder of its own, which predicts and goes on learning."""
    from bench import export as exports

    model = exports.served(folder, exports.find(folder, cell), task)
    exports.save(model, to)
    origin = model.facts["from"]
    print(f"{to}: {origin['cell']}, after {origin['tasks_done']} of {origin['tasks']} tasks")
    writes = model.facts.get("writes")
    kind, names = ("tasks", [n for n, _ in writes["tasks"]]) if writes else ("labels", list(model.labels))
    print(f"{len(names)} {kind}: {', '.join(names[:12])}{', ...' * (len(names) > 12)}")
    print(f"how to load it: {to / 'README.md'}")


@app.command(
    epilog="Examples: lethe predict models/er 'a sentence' 'another' | lethe predict models/er "
    "--file rows.csv --column text --out answers.csv | lethe predict models/m30k 'a dog' --task en-de"
)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What lethe export made.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Sentences.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts in CSV, or images in .npy (N, C, H, W).")] = None,
    column: Annotated[str, typer.Option(help="The column of the texts.")] = "text",
    task: Annotated[str, typer.Option(help="What is to be written, of a model that writes: 'en-de'.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write CSV here, instead of lines.")] = None,
) -> None:
    """Answer with an exported model: a line each, the label and its probability, or what it writes."""
    from bench import rows
    from bench.exported import Exported

    exported = Exported.at(folder)
    reads_texts = exported.reads_texts
    if bool(texts) == (file is not None):
        raise errors.UserError("give either sentences or --file")
    if texts and not reads_texts:
        raise errors.UserError(f"{folder} reads images, not sentences: give them as --file images.npy")
    given: Any = (
        texts if file is None else rows.read_texts(file, column) if reads_texts else rows.read_images(file)
    )
    from bench import serve

    model = serve.load(folder)
    asked = model.asked(given, task) if reads_texts or task else given
    if reads_texts and (cut := model.cut(asked)):
        most = model.facts["options"]["max_tokens"]
        print(f"{cut} of {len(given)} texts cut at {most} tokens", file=sys.stderr)
    digits = 4 if out is None else 6
    answers: list[list[str]]
    if exported.writes:
        columns, answers = ["written"], [[text] for text in model.written(asked)]
    else:
        columns, found = ["label", "probability"], model.answers(asked)
        answers = [[label, f"{probability:.{digits}f}"] for label, probability in found]
    if out is None:
        for answer in answers:
            print("\t".join(answer).replace("\n", " "))  # a line each
        return
    what, first = ("text", given) if reads_texts else ("row", range(len(given)))
    rows.write_answers(out, [what, *columns], ([x, *a] for x, a in zip(first, answers, strict=True)))
    print(f"{len(answers)} answers: {out}")


@app.command(epilog="Example: lethe status results/runs/first")
def status(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")]) -> None:
    """Say what of a run is done, failed, skipped and missing."""
    run_, cells = _opened(folder)
    records = {r["key"]: r for r in run_.records()}
    counts: dict[str, int] = {}
    for key in cells | records.keys():
        state = records[key]["status"] if key in records else "missing"
        counts[state] = counts.get(state, 0) + 1
    print(f"{folder}: {', '.join(f'{n} {s}' for s, n in sorted(counts.items())) or 'empty'}")
    for key, words in cells.items():
        record = records.get(key)
        if record is None:
            under_way = run_.facts(key)
            done = f" ({under_way['tasks_done']} tasks done)" if under_way else ""
            print(f"missing   {words}{done}")
        elif record["status"] != "done":
            why = record["reason"] or f"{record['error']['kind']}: {record['error']['message']}"
            print(f"{record['status']:<9} {words}: {why}")
    for words in run_.set_aside:
        print(words)


@app.command(
    epilog="Examples: lethe report results/runs/first --scores acc,forgetting | lethe report runs/a runs/b "
    "--wide --spread sd --out reports/both"
)
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    scores: Annotated[str, typer.Option(help="Columns, with commas.")] = "",
    spread: Annotated[
        str, typer.Option(help="ci (95 % t interval), bca (95 % bootstrap interval), sd or sem.")
    ] = "ci",
    by_family: Annotated[bool, typer.Option("--by-family", help="Rows under their families.")] = False,
    per_task: Annotated[bool, typer.Option("--per-task", help="Each task's final score.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Suites as columns, a table a score.")] = False,
    by_class: Annotated[
        bool, typer.Option("--classes", help="Precision, recall and F1 of each class too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; DIR/report without it.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page live, on this machine alone; Ctrl-C ends it.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 for a free one.")] = 0,
) -> None:
    """Make page, tables (terminal, Markdown, LaTeX, CSV) and figures from one or several runs' records."""
    import time

    from rich.console import Console

    from bench.frames import load
    from bench.report.classes import class_tables, print_classes, write_classes
    from bench.report.make import make_report
    from bench.report.summary import Layout

    for folder in folders:
        _opened(folder)
    if serve:
        _serve(folders, tuple(filter(None, scores.split(","))) or None, port)
        return
    if out is None and len(folders) > 1:
        raise errors.UserError("name the folder of a report on several runs with --out")
    layout = Layout(spread, by_family, per_task, wide, marks=True, origin=True)  # type: ignore[arg-type]
    chosen = tuple(filter(None, scores.split(","))) or None
    frames = load(*folders)
    classes = class_tables(frames, layout) if by_class else None
    target, date = out or folders[0] / "report", time.strftime("%Y-%m-%d")
    made = make_report(frames, target, chosen, layout, date, Console())
    if classes:
        print_classes(classes, Console())
        write_classes(classes, made)
    print(f"report: {made / 'index.html'}")
    for words in frames.set_aside:
        print(words, file=sys.stderr)


def _serve(folders: list[Path], scores: tuple[str, ...] | None, port: int) -> None:
    """Serve the page of runs until Ctrl-C."""
    from bench.frames import load
    from bench.report.page import make_page
    from bench.report.serve import HOST, Live, server

    serving = server(Live(folders, lambda: make_page(load(*folders), scores, live=True)), port)
    print(f"the page: http://{HOST}:{serving.server_address[1]}/ (Ctrl-C ends it)", flush=True)
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        serving.server_close()


@app.command(epilog="Example: lethe power results/runs/first er ewc --score acc --difference 1.0")
def power(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder.")],
    a: Annotated[str, typer.Argument(metavar="A", help="A strategy of the run, as its tables name it.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    score: Annotated[str, typer.Option(help="The score.")] = "acc",
    difference: Annotated[float, typer.Option(help="What is to be seen, in points.")] = 1.0,
) -> None:
    """Say how many seeds are needed to see a difference between two strategies, from a run's variances."""
    from rich.console import Console

    from bench.frames import load
    from bench.report.rows import print_rows
    from bench.stats import power

    _opened(folder)
    found = power.needs(load(folder).scores, a, b, score, difference)
    print_rows(power.HEADER, power.rows(found), Console(), power.caption(a, b, score, difference))


def _opened(folder: Path) -> tuple[Any, dict[str, str]]:
    """Return a run and its planned cells; raises UserError for a folder that is none."""
    from bench.store import Run

    run = Run(folder)
    manifest = run.manifest()
    if not manifest:
        raise errors.UserError(f"{folder} is not a run's folder: it has no run.json")
    return run, manifest["cells"]
