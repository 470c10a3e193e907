"""The list of equivalent code of a run, a file beside its folder or packed file: both have the same."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench.plan import Staleness
from bench.schema import Equivalence, Equivalences, Unreadable
from bench.store.files import write_json
from bench.store.run_reader import RunReader
from suites.errors import UserError

SUFFIX = ".equivalent.json"


def equivalences_path(run: RunReader) -> Path:
    """Return where a run's list is: ``NAME.equivalent.json``."""
    return run.folder.resolve().with_name(run.name + SUFFIX)


def read_equivalences(run: RunReader) -> Equivalences:
    """Return a run's list, an empty one where there is none.

    Raises:
        UserError: for one that cannot be read.
    """
    path = equivalences_path(run)
    try:
        return Equivalences.read(path.read_bytes())[0]
    except FileNotFoundError:
        return Equivalences.empty()
    except (OSError, Unreadable) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{path} cannot be read: {why}; remove it, and lethe verify --records makes it again"
        ) from None


def enter_equivalences(
    run: RunReader, found: Sequence[Equivalence], refuted: Collection[tuple[str, str, str, str]] = ()
) -> Path | None:
    """Enter equivalences into a run's list, each in place of an older one of the same records.

    Args:
        run: The run.
        found: What is entered.
        refuted: Strategy, suite, model and code of records that today did not make again: their entries
            are taken out.

    Returns:
        The file; None where it stayed as it was.

    Raises:
        UserError: where it cannot be read or written.
    """
    path, before = equivalences_path(run), read_equivalences(run).entries
    of: dict[tuple[str, str, str, str], Equivalence] = {}
    for e in [*before, *found]:
        known = of.setdefault((e.strategy, e.suite, e.model, e.before), e)
        if known.now != e.now or not set(e.cells) <= set(known.cells):  # else it says nothing new
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
    """Return what says which records of a run are stale, for readers.

    Args:
        run: The run.
        data_now: The fingerprint of a suite's data; where it is not known, data is compared as the run saw
            it last, so that no data set has to be loaded.

    Raises:
        UserError: for a manifest or a list of equivalent code that cannot be read.
    """
    manifest = run.manifest()
    data = lambda suite: data_now(suite) or manifest.data.get(suite)  # noqa: E731
    return Staleness(manifest.code, read_equivalences(run), data)
