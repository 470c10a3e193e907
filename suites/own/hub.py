"""Data sets of the hub that a declaration names: parquet files of the hub, or of a local mirror of it."""

import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from suites.errors import Unavailable
from suites.own.declaration import MIRROR, Declaration
from suites.sources import hub_in_reach


def hub_identity(d: Declaration) -> str:
    """Return what changes when the data does: names, sizes and times of a mirror's files, or the revision.

    Raises:
        Unavailable: The data set is neither in the mirror nor available for download.
    """
    files = mirror_files(d)
    if files is None:
        return f"{d.place}/{d.config}"
    stats = [(path.name, path.stat()) for path in files.values()]
    return f"{files['train'].parent}/{[(name, s.st_size, s.st_mtime_ns) for name, s in stats]}"


def mirror_files(d: Declaration) -> dict[str, Path] | None:
    """Return the file of each split in the mirror in LETHE_DATA; None without one: the hub should be used.

    Raises:
        Unavailable: The mirror does not have the data set, or it is needed and LETHE_DATA is not set.
    """
    mirror, only_mirror = os.environ.get("LETHE_DATA"), d.place.startswith(MIRROR)
    if not mirror:
        if only_mirror:
            raise Unavailable(
                f"the hub has no copy of {d.repository} that Lethe can load: set LETHE_DATA or --data "
                f"to a folder that has {d.in_mirror}/train.parquet and test.parquet"
            )
        return None
    folder = (Path(mirror) / d.in_mirror).resolve()
    files = {split: folder / f"{split}.parquet" for split in ("train", "test")}
    for path in files.values():
        if not path.is_file():
            hub = "" if only_mirror else ", or leave both out to use the hub"
            raise Unavailable(f"the mirror has no {path}; use a mirror (LETHE_DATA, --data) that has it{hub}")
    return files


@contextmanager
def opened(d: Declaration) -> Iterator[Any]:
    """Yield the splits, loaded by ``datasets`` from parquet files of a mirror or from the hub.

    Read them inside the context: a mirror's files are converted in a temporary folder.

    Raises:
        Unavailable: As ``mirror_files``, or the hub cannot be reached; the message says what to do.
    """
    import datasets

    datasets.disable_progress_bars()
    files = mirror_files(d)
    if files is None:
        if (cached := _from_hub_cache(d)) is not None:
            yield cached
            return
        why = hub_in_reach()
        if why is not None:
            raise _out_of_reach(d, why)
        try:
            splits = datasets.load_dataset(d.repository, d.config or "default", revision=d.revision)
        except (OSError, ConnectionError, datasets.exceptions.DatasetsError) as error:
            raise _out_of_reach(d, type(error).__name__) from error
        yield splits
    else:
        with tempfile.TemporaryDirectory() as scratch:
            read = datasets.Dataset.from_parquet
            yield {split: read(str(path), cache_dir=scratch) for split, path in files.items()}


def _from_hub_cache(d: Declaration) -> dict[str, Any] | None:
    """Return the splits that ``datasets`` downloaded earlier in exactly this revision, None if it did not.

    Asking the hub first would fail offline, and would then accept any revision in the cache.
    """
    import datasets

    owner, _, name = d.repository.rpartition("/")
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)).lower()
    place = Path(datasets.config.HF_DATASETS_CACHE) / (f"{owner}___{words}" if owner else words)
    config, revision = glob.escape(d.config or "default"), glob.escape(d.revision)
    for folder in sorted(place.glob(f"{config}/*/{revision}")):
        with suppress(OSError, ValueError, KeyError):  # a damaged file is downloaded again
            splits = json.loads((folder / "dataset_info.json").read_bytes())["splits"]
            ends = {split: (f"*-{split}.arrow", f"*-{split}-*-of-*.arrow") for split in splits}
            parts = {split: sorted(p for end in of for p in folder.glob(end)) for split, of in ends.items()}
            if parts and all(parts.values()):
                read = datasets.Dataset.from_file
                return {
                    k: datasets.concatenate_datasets([read(str(p)) for p in of]) for k, of in parts.items()
                }
    return None


def _out_of_reach(d: Declaration, why: str) -> Unavailable:
    return Unavailable(
        f"cannot download {d.repository} from the Hugging Face hub ({why}): connect to the network, or "
        f"set LETHE_DATA or --data to a folder that has {d.in_mirror}/train.parquet and test.parquet"
    )
