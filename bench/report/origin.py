"""The origin of numbers: command, version, seeds and hardware, from the manifest and the cells."""

from collections.abc import Iterable

from bench.results import Command, Frames, ranges


def origin(frames: Frames) -> list[str]:
    """Return the origin in sentences, without dates."""
    commands = frames.manifest.commands
    # A command that was repeated after an interruption is listed once.
    lines = _unique(c.command for c in commands)
    words = [f"Command: {'; '.join(lines)}."] if lines else []
    versions = _unique(_version(c) for c in commands)
    words += [f"Made with {'; '.join(versions)}."] if versions else []
    done = frames.cells[frames.cells["status"] == "done"]
    if len(done):
        found = sorted(map(int, done["seed"].unique()))
        counts = done.groupby(["suite", "scenario", "identity"])["seed"].nunique()
        unequal = "" if counts.nunique() == 1 else f" (from {counts.min()} to {counts.max()} a row, see n)"
        words.append(f"Seeds {ranges(found)}{unequal}.")
    hardware = _unique(f"{c.device} ({c.machine})" for c in commands)
    words += [f"Hardware: {'; '.join(hardware)}."] if hardware else []
    return words


def _version(command: Command) -> str:
    packages, made_by = command.packages, revision(command)
    at = f" at {made_by}" if made_by else ""
    return f"lethe-bench {packages.get('lethe-bench', '?')}{at}, torch {packages.get('torch', '?')}"


def revision(command: Command) -> str:
    """Return the git revision of the code, and whether it had changes; empty if it is not known."""
    return f"{command.git[:10]}{' with changes' if command.dirty else ''}" if command.git else ""


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
