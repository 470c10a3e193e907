"""``python -m bench.tune.write_presets FOLDER... [METHOD...]``: writes strategies/presets.toml.

The values are choices of ``lethe tune`` in these folders.

Presets of a method, suite and scenario that a folder tuned are replaced, or only those of the methods named;
all others stay.
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from bench.plan import Fields, Request, Value, text_of
from bench.results import Tuned
from bench.store import RunReader
from bench.tune.study import FOLDER, other_settings
from strategies import names
from strategies.presets import FILE
from suites.errors import UserError

HEAD = """# Settings that lethe tune chose by validation rows of tuning seeds, for [preset=SUITE].
# Made by: python -m bench.tune.write_presets FOLDER... [METHOD...]
"""


def entry(chosen: Tuned, shared: Fields) -> Fields | None:
    """Return the preset of one tuned method; None if no trial was better than its defaults, the first trial.

    Args:
        chosen: How its settings were chosen.
        shared: What all of its trials share, from their manifest.

    Raises:
        UserError: Its settings were not chosen on seeds that are reserved for tuning, or with others than the
            suite's settings.
    """
    (usual,) = Request(chosen.view, (chosen.selector,), (chosen.scenario,)).shared().values()
    if words := other_settings(shared, usual):
        raise UserError(f"{chosen.selector} was tuned with {words}; a preset needs the settings of its suite")
    if chosen.best is None or chosen.chosen == 0:
        return None
    if chosen.protocol != "seeds":
        raise UserError(
            f"{chosen.selector} was tuned with {chosen.protocol}; a preset needs --protocol seeds"
        )
    numbers = f"{chosen.seeds[0]}-{chosen.seeds[-1]}"
    how = f"{len(chosen.trials)} trials of {chosen.sampler}, seeds {numbers}"
    about = {"strategy": chosen.selector, "suite": chosen.suite, "scenario": chosen.scenario, "tuned": how}
    return about | {"values": dict(chosen.best.settings)}


def in_toml(entries: Sequence[Fields]) -> str:
    """Return the content of the file."""
    parts = [HEAD]
    for one in entries:
        lines = [f"{name} = {_text(one[name])}" for name in ("strategy", "suite", "scenario", "tuned")]
        values = ", ".join(f"{name} = {_text(value)}" for name, value in one["values"].items())
        parts.append("\n".join(["[[preset]]", *lines, f"values = {{ {values} }}", ""]))
    return "\n".join(parts)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    text = text_of(value)
    # 1e5 is a float in TOML, and 10 is not.
    return f"{text}.0" if isinstance(value, float) and text.lstrip("-").isdigit() else text


def main(arguments: Sequence[str], file: Path = FILE) -> None:
    """Write the file with the choices of folders, of all methods or those named, in place of earlier ones."""
    known = names()
    folders, only = [Path(a) for a in arguments if a not in known], [a for a in arguments if a in known]
    before = tomllib.loads(file.read_text(encoding="utf-8")).get("preset", ()) if file.exists() else ()
    found = {_key(one): one for one in before}
    for folder in folders:
        trials = RunReader(folder / FOLDER).manifest()
        for chosen in RunReader(folder).manifest().tuning.values():
            if chosen.selector in (only or known):  # not one with settings in brackets
                found.pop((chosen.selector, chosen.suite, chosen.scenario), None)
                shared = trials.shared[f"{chosen.view}/{chosen.scenario}"]
                if (one := entry(chosen, shared)) is not None:
                    found[_key(one)] = one
    file.write_text(in_toml([found[key] for key in sorted(found)]), encoding="utf-8")


def _key(one: Fields) -> tuple[str, str, str]:
    return one["strategy"], one["suite"], one["scenario"]


if __name__ == "__main__":
    main(sys.argv[1:])
