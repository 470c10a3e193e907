"""The command ``perf``."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.app import Device, Json, Mirror, Settings, app, use_mirror
from bench.cli.asked import pairs_of
from bench.cli.output import print_json
from suites import errors

if TYPE_CHECKING:
    from bench.checks.against import Ratio
    from bench.checks.steady_state import Setup


@app.command(
    epilog="Examples: lethe perf digits -s er -s ewc --lanes 1,8 | lethe perf digits -s er --against main"
)
def perf(
    suite: Annotated[str, typer.Argument(help="A suite.")],
    strategy: Annotated[list[str], typer.Option("-s", "--strategy", help="A strategy; repeat for more.")],
    scenario: Annotated[str, typer.Option(help="task, domain, class or online.")] = "class",
    lanes: Annotated[str, typer.Option(help="Numbers of lanes, with commas.")] = "1",
    settings: Settings = None,
    against: Annotated[
        str, typer.Option(metavar="REV", help="Compare the current tree with this git revision.")
    ] = "",
    margin: Annotated[
        float, typer.Option(min=0.1, help="With --against: largest slowdown allowed, in percent.")
    ] = 5.0,
    turns: Annotated[int, typer.Option(min=6, help="Without --against: number of measurements.")] = 25,
    device: Device = "cpu",
    data: Mirror = None,
    as_json: Json = False,
) -> None:
    """Measure training steps in steady state, beside a bare loop or against another revision.

    Without --against, each turn times the steps and then a plain loop of torch in the same process (an MLP
    784-400-400-10, batch 32): the ratio of both depends little on what else the machine does. With --against,
    processes of both trees take turns, and the exit code is 1 if a step of the current tree is slower than
    the margin allows. Times are those of one thread.
    """
    use_mirror(data)
    setups = setups_of(suite, strategy, scenario, lanes, settings, device)
    if against:
        _against(against, setups, margin / 100, as_json)
        return
    from bench.checks.steady_state import measure

    rows = []
    for setup in setups:
        found = measure(setup, turns)
        ratio, low, high = found.ratio
        rows.append(found)
        if not as_json:
            each = f"{found.step_ms:.3f} ms a step, {found.samples_per_second:,.0f} samples/s"
            memory = f"peak {found.peak_bytes / 2**20:,.0f} MiB"
            print(
                f"{setup.title}: {ratio:.2f} ({low:.2f} to {high:.2f}) x bare loop; {each}; {memory}",
                flush=True,
            )
    if as_json:
        _print_json("beside a bare loop", [asdict(found) | {"ratio": found.ratio} for found in rows], device)


def setups_of(
    suite: str,
    strategies: Sequence[str],
    scenario: str,
    lanes: str,
    settings: Sequence[str] | None,
    device: str,
) -> "list[Setup]":
    """Return what the words of ``lethe perf`` ask for; raises UserError for what is wrong."""
    from bench.checks.steady_state import Setup
    from bench.plan import one_cell

    try:
        numbers = [int(text) for text in lanes.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise errors.UserError(f"cannot read --lanes {lanes!r}; write numbers from 1 on, like --lanes 1,8")
    chosen = pairs_of(settings or ())
    for name in strategies:
        one_cell(suite, name, scenario, 0, chosen)
    return [Setup(suite, name, scenario, n, chosen, device) for name in strategies for n in numbers]


def _against(name: str, setups: "list[Setup]", margin: float, as_json: bool) -> None:
    from bench.checks.against import against as measure_against
    from bench.checks.trees import checked_out, current

    with checked_out(name) as old:
        ratios = measure_against(old, current(), setups, margin)
    verdicts = [ratio.verdict(margin) for ratio in ratios]
    if as_json:
        rows = [
            {"setup": asdict(r.setup), "verdict": v, "margin": margin, "ratio": r.interval}
            | {"pairs": len(r.logs), "step_ms": r.step_ms, "peak_bytes": r.peak_bytes}
            for r, v in zip(ratios, verdicts, strict=True)
        ]
        _print_json(f"against {old.revision}", rows, setups[0].device)
    else:
        for ratio, verdict in zip(ratios, verdicts, strict=True):
            print(_line(ratio, verdict, old.revision[:12]))
    if "slower" in verdicts:
        raise typer.Exit(1)


def _line(found: "Ratio", verdict: str, old: str) -> str:
    from statistics import median

    ratio, low, high = found.interval
    before, now = (f"{median(each):.3f} ms" for each in found.step_ms)
    a, b = (f"{peak / 2**20:,.0f}" for peak in found.peak_bytes)
    return (
        f"{verdict:<8} {found.setup.title}: {ratio:.3f} ({low:.3f} to {high:.3f}) x {old}; "
        f"a step {before} -> {now}; peak {a} -> {b} MiB; {len(found.logs)} pairs of processes"
    )


def _print_json(what: str, rows: list[dict[str, Any]], device: str) -> None:
    from bench.store import now, where

    print_json({"schema": 1, "what": what, "at": now(), **where(device), "measured": rows})
