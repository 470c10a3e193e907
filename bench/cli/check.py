"""``lethe check``: checks of methods, suites and models, and of default hyper-parameters on a suite."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.cli.app import Jobs, Json, app, importing
from bench.cli.output import print_json
from suites import errors


@app.command(
    epilog="Examples: lethe check ./mine.py:M | lethe check 'er[buffer=50]' er+lwf | lethe check all "
    "| lethe check ./my_suite.py:SHAPES | lethe check ./mine.py:M --only alone --only resumed "
    "| lethe check defaults digits | lethe check defaults digits -s si -s dgr --scenario class "
    "| lethe check pretended-gpu --only er | lethe check gpu"
)
def check(
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="Strategies, suites, models: name, ./file.py:Name; or all; or defaults and suites; or gpu; "
            "or pretended-gpu.",
        ),
    ],
    only: Annotated[list[str] | None, typer.Option(help="Run only this check; repeat for more.")] = None,
    strategy: Annotated[
        list[str] | None, typer.Option("-s", "--strategy", help="For defaults: only these methods.")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="For defaults: only this scenario; repeat, or use commas.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="For defaults: 2 means 0 and 1.")] = "2",
    out: Annotated[
        Path | None,
        typer.Option(
            help="For defaults: save the cells in this folder; those that it has are not run again. For gpu: "
            "write a line of JSON per strategy to this file, by default gpu.jsonl."
        ),
    ] = None,
    jobs: Jobs = 0,
    device: Annotated[str, typer.Option(help="For gpu: cuda, cuda:1 ...")] = "cuda",
    as_json: Json = False,
) -> None:
    """Check methods, suites or models on small generated streams; each finding is one line with what to do.

    ``lethe check defaults SUITE`` trains each method and finetune on a few seeds, and names the methods that
    at their defaults equal finetune, whose own term hardly acts, or that are worse.

    ``lethe check pretended-gpu`` runs every strategy with every kind of model on a pretended CUDA device;
    ``lethe check gpu`` checks a real one within minutes.

    The exit code is 1 if something was found.
    """
    if target == ["gpu"]:
        from bench.checks import gpu

        raise typer.Exit(gpu.main(["--device", device, "--out", str(out or "gpu.jsonl")]))
    if target[0] == "defaults":
        if only:
            raise errors.UserError("--only chooses checks of a method; -s chooses methods for defaults")
        kinds = [kind for part in scenario or () for kind in part.split(",")]
        return _defaults(target[1:], strategy or [], kinds, seeds, out, jobs, as_json)
    if strategy or scenario or out:
        raise errors.UserError("-s, --scenario and --out are options of lethe check defaults SUITE")
    from bench.checks.targets import targets

    found, rows = 0, []
    chosen = targets(target)
    for name in only or ():
        if wrong := next((t for t in chosen if name not in t.checks), None):
            raise errors.unknown(f"check of a {wrong.kind}", name, list(wrong.checks))
    for one in chosen:
        began, passed, skipped, failed = time.perf_counter(), 0, 0, 0
        for result in one.results(only or ()):
            rows.append({"target": one.name, **asdict(result)})
            for words in result.findings if not as_json else ():
                print(f"{one.name}: {result.check}: {words}", flush=True)
            if result.note and not as_json:
                print(f"{one.name}: note, {result.check}: {result.note}", flush=True)
            found += len(result.findings)
            passed += not result.findings and not result.skipped
            skipped += bool(result.skipped)
            failed += bool(result.findings)
            state = "found" if result.findings else "does not apply" if result.skipped else "passed"
            why = f": {result.skipped}" if result.skipped else ""
            print(f"{one.name} {result.check} {state} {result.seconds:.1f} s{why}", file=sys.stderr)
        rest = f", {skipped} do not apply" if skipped else ""
        more = f", {failed} found something" if failed else ""
        if not as_json:
            seconds = time.perf_counter() - began
            print(f"{one.name}: {passed} checks passed{rest}{more}; {seconds:.0f} s", flush=True)
    if as_json:
        print_json(rows)
    if found:
        raise typer.Exit(1)


def _defaults(
    suites: list[str],
    chosen: list[str],
    scenarios: list[str],
    seeds: str,
    out: Path | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Compare methods with finetune on suites; print findings and end with code 1 if there are any."""
    from bench.checks.defaults import candidates, findings, request_of
    from bench.cli.carrying_out import run_requests, say_unfinished
    from bench.plan import seeds_of
    from bench.results import load, own_project
    from bench.runner import Options

    if not suites:
        raise errors.UserError("name a suite: lethe check defaults digits")
    began, (usual, slow) = time.perf_counter(), candidates()
    with importing(False, [*suites, *chosen]), TemporaryDirectory(prefix="lethe-") as scratch:
        requests = [request_of(suite, chosen or usual, scenarios, seeds_of(seeds)) for suite in suites]
        folder = out or Path(scratch) / "run"
        outcome = run_requests(requests, folder, Options(jobs=jobs))
        frames = load(folder)
    found = findings(frames, own_project())
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            print(f"{one.suite} {one.scenario} {one.strategy}: {one.words}")
        done = frames.cells[(frames.cells["status"] == "done") & (frames.cells["strategy"] != "finetune")]
        rows = len(done[["suite", "scenario", "identity"]].drop_duplicates())
        print(f"{rows} defaults checked, {len(found)} found; {time.perf_counter() - began:.0f} s")
        if slow and not chosen:
            print(f"not checked, as they take long: {', '.join(slow)}; name them with -s")
    for why in outcome.failures:
        print(f"failed: {why}", file=sys.stderr)
    say_unfinished(outcome.unfinished)
    if found or outcome.failures or outcome.unfinished:
        raise typer.Exit(1)
