"""Data sets of the hub, or of a local mirror of it, that a declaration names."""

from suites.own.declaration import HUB, MIRROR, Declaration
from suites.sources import Source, mirror_files


def hub_source(d: Declaration) -> Source:
    """Return where the data set of a declaration is."""
    name, _, revision = d.place.removeprefix(HUB).rpartition("@")
    if d.place.startswith(MIRROR):
        name, revision = d.place.removeprefix(MIRROR), ""
    return Source(repository=name, config=d.config or "default", revision=revision, only_mirror=not revision)


def hub_identity(d: Declaration) -> str:
    """Return what changes when the data does: names, sizes and times of a mirror's files, or the revision.

    Raises:
        Unavailable: The data set is neither in the mirror nor available for download.
    """
    files = mirror_files(hub_source(d))
    if files is None:
        return f"{d.place}/{d.config}"
    stats = [(path.name, path.stat()) for path in files.values()]
    return f"{files['train'].parent}/{[(name, s.st_size, s.st_mtime_ns) for name, s in stats]}"
