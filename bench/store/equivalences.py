"""The list of equivalent code of a run, a file beside its folder or packed file."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench.plan import Staleness
from bench.schema import Equivalence, Equivalences, Unreadable
from bench.store.files import write_json
from bench.store.run_reader import RunReader
from suites.errors import UserError
from suites.paths import read_file, resolved

SUFFIX = ".equivalent.json"


def equivalences_path(run: RunReader) -> Path:
    """Return the path of the list of a run: ``NAME.equivalent.json``."""
    return resolved(run.folder).with_name(run.name + SUFFIX)


def read_equivalences(run: RunReader) -> Equivalences:
    """Return the list of a run, an empty one if it has none.

    Raises:
        UserError: It cannot be read.
    """
    path = equivalences_path(run)
    try:
        return Equivalences.read(read_file(path))[0]
    except FileNotFoundError:
        return Equivalences.empty()
    except (OSError, Unreadable) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path} cannot be read: {why}; remove it and run lethe verify --records, which writes it again"
        ) from None


def equivalences_if_readable(run: RunReader) -> Equivalences:
    """Return the list of a run, an empty one with a line in ``run.unreadable`` if it cannot be read."""
    return run.if_readable(lambda: read_equivalences(run), Equivalences.empty())


def enter_equivalences(
    run: RunReader, found: Sequence[Equivalence], refuted: Collection[tuple[str, str, str, str]] = ()
) -> Path | None:
    """Add equivalences to the list of a run; each replaces an older one of the same records.

    Args:
        run: The run.
        found: The new equivalences.
        refuted: Strategy, suite, model and code of records that were not reproduced: their entries are
            removed.

    Returns:
        The file; None if it did not change.

    Raises:
        UserError: It cannot be read or written.
    """
    path, before = equivalences_path(run), read_equivalences(run).entries
    of: dict[tuple[str, str, str, str], Equivalence] = {}
    for e in [*before, *found]:
        known = of.setdefault((e.strategy, e.suite, e.model, e.before), e)
        if known.now != e.now or not set(e.cells) <= set(known.cells):  # else it is not new
            of[e.strategy, e.suite, e.model, e.before] = e
    entries = [e for code, e in of.items() if code not in refuted]
    if entries == before:
        return None
    content = {"schema": Equivalences.VERSION, "entries": [e.model_dump() for e in entries]}
    try:
        write_json(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def staleness_of(run: RunReader, data_now: Callable[[str], str | None] = lambda suite: None) -> Staleness:
    """Return an object that decides which records of a run are stale, for readers.

    Args:
        run: The run.
        data_now: Returns the current fingerprint of the data of a suite. If it returns None, the last
            fingerprint in the manifest is used, so that no data set has to be loaded.

    A manifest or list of equivalent code that cannot be read counts as empty; ``run.unreadable`` names it.
    """
    manifest = run.manifest_if_readable()
    data = lambda suite: data_now(suite) or manifest.data.get(suite)  # noqa: E731
    return Staleness(manifest.code, equivalences_if_readable(run), data)
