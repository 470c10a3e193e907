"""Claims: which command runs which cells, so that several commands can share a run's folder.

    RUN/claims/<owner>.owner    a command that is running: its host, process and command line
    RUN/claims/<key>            the same file under a second name: that command runs this cell
    RUN/claims/<key>.attempt    which worker of an engine runs the group that begins with this cell

A command claims the cells of a group when their training begins and releases them when their records are
written. A claim is a hard link, which is made atomically and only if the name is free. The owner's file is
touched every BEAT seconds. A command is dead if its process is gone, for those on the same system, or if its
file was not touched for STALE seconds, for others. Its claims are removed by the command that first renames
its file, and by no other: a claim is never taken from its second owner by mistake.

No result depends on claims: a cell that two commands run gets the same record from both.
"""

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.store.environment import now
from bench.store.files import make_folder, writing
from suites.errors import UserError

BEAT, STALE = 10.0, 120.0
"""Seconds between two heartbeats, and without one until a command on another system counts as dead."""
_OWNER, _TAKEN, _ATTEMPT = ".owner", ".taken-by-", ".attempt"
_NO_LINKS = errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK


@dataclass(frozen=True)
class Owner:
    """A command that runs cells."""

    token: str
    host: str
    system: str
    """Boot and process namespace, or host: where process numbers are comparable."""
    process: int
    started: str
    """Start of the process, in ticks since the boot: its number may be given to another one."""
    command: str
    at: str

    @classmethod
    def here(cls, command: str) -> Self:
        """Return the owner of this process's claims."""
        process = os.getpid()
        of = uuid.uuid4().hex[:12], socket.gethostname(), _system(), process, _started(process) or ""
        return cls(*of, command, now())

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.at}"


class Claims:
    """The claims of one command, as a context; all are released at its end.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(self, run: Path, command: str) -> None:
        self.folder, self.owner = run / "claims", Owner.here(command)
        self.path = self.folder / f"{self.owner.token}{_OWNER}"
        self.held: set[str] = set()
        self._text = json.dumps(asdict(self.owner))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        with writing(self.folder.parent):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            while True:
                make_folder(self.folder)
                with suppress(FileNotFoundError):  # another command has just ended and removed the folder
                    self.path.write_text(self._text, encoding="utf-8")
                    break
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            if self.path.exists():  # else another command has taken the claims over
                self.release(set(self.held))
            self.path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path)

    def take(self, names: Collection[str]) -> set[str]:
        """Claim what is free or was claimed by a dead command; return those of ``names`` it holds.

        Raises:
            UserError: The folder cannot be written, or another command has taken the claims of this one over.
        """
        try:
            self.held |= {name for name in names if name not in self.held and self._take(name)}
        except OSError as error:
            check_owner(self.path)
            raise UserError(f"cannot write into {self.folder.parent}: {error.strerror}") from None
        return self.held.intersection(names)

    def _take(self, name: str) -> bool:
        for _ in range(2):
            try:
                self._link(self.folder / name)
            except FileExistsError:
                owner = _read(self.folder / name)
                if owner is not None and owner.token == self.owner.token:  # the answer of a server was lost
                    return True
                if owner is not None and not self._is_alive(owner):
                    self._remove_claims_of(owner)
            else:
                return True
        return False

    def _link(self, path: Path) -> None:
        try:
            os.link(self.path, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.path.stat()  # as link raises where the owner's file is gone
            with path.open("x", encoding="utf-8") as stream:  # a file system without hard links
                stream.write(self._text)

    def release(self, names: Collection[str]) -> None:
        """Give claims back."""
        for name in self.held.intersection(names):
            with suppress(OSError):  # the folder cannot be written any more: the claim ends with its owner
                (self.folder / name).unlink()
            self.held.remove(name)

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Wait until a name is free and hold it; yield whether no other command runs."""
        while not self.take({name}):
            time.sleep(0.02)
        try:
            yield not any(self._is_alive(other) for other in self._others())
        finally:
            self.release({name})

    def holders(self, names: Collection[str]) -> list[str]:
        """Return the commands that hold claims, in words."""
        owners = (_read(self.folder / name) for name in names)
        return sorted({str(owner) for owner in owners if owner is not None})

    def _others(self) -> list[Owner]:
        owners = (_read(path) for path in self.folder.glob(f"*{_OWNER}") if path != self.path)
        return [owner for owner in owners if owner is not None]

    def _is_alive(self, owner: Owner) -> bool:
        if owner.system == self.owner.system:
            return _started(owner.process) == owner.started
        try:
            beat = (self.folder / f"{owner.token}{_OWNER}").stat().st_mtime
        except FileNotFoundError:  # its claims are being removed
            return True
        os.utime(self.path)  # both times are by the clock of the file system
        return self.path.stat().st_mtime - beat < STALE

    def _remove_claims_of(self, dead: Owner) -> None:
        """Remove the claims of a dead command, and of those whose claims it was about to remove."""
        try:
            taken = self.folder / f"{dead.token}{_TAKEN}{self.owner.token}"
            (self.folder / f"{dead.token}{_OWNER}").rename(taken)
        except FileNotFoundError:  # another command removes them
            return
        taken_all = [taken, *self.folder.glob(f"*{_TAKEN}{dead.token}")]
        dead_ones = {path.name.partition(_TAKEN)[0] for path in taken_all}
        for path in self.folder.iterdir():
            if "." not in path.name and (owner := _read(path)) and owner.token in dead_ones:
                path.unlink(missing_ok=True)
        for path in taken_all:
            path.unlink(missing_ok=True)


def running(run: Path) -> dict[str, str]:
    """Return who runs each claimed cell of a run, in words, by key; nothing is written.

    Commands on another system count as dead ``STALE`` seconds after their last heartbeat, by this clock.
    """
    found, alive = {}, {}
    for path in sorted((run / "claims").glob("*")):
        if "." in path.name or (owner := _read(path)) is None:
            continue
        if owner.token not in alive:
            alive[owner.token] = _seems_alive(run / "claims" / f"{owner.token}{_OWNER}", owner)
        if alive[owner.token]:
            found[path.name] = str(owner)
    return found


def _seems_alive(path: Path, owner: Owner) -> bool:
    if owner.system == _system():
        return _started(owner.process) == owner.started
    try:
        return time.time() - path.stat().st_mtime < STALE
    except OSError:
        return False


def check_owner(path: Path) -> None:
    """Check, before anything is written about a claimed cell, that the claims of this command are its own.

    Raises:
        UserError: Another command has taken them over.
    """
    if not path.exists() and path.parent.parent.exists():
        raise UserError(
            f"cannot write into {path.parent.parent}: another command runs its cells now, "
            f"because this one gave no sign of life for {STALE:.0f} s"
        )


@dataclass(frozen=True)
class Attempt:
    """A worker's attempt at a group. The latest one counts: an earlier one that is still running, on a worker
    that its engine has given up, writes nothing more."""

    path: Path
    token: str

    @classmethod
    def begin(cls, run: Path, key: str) -> Self:
        """Begin an attempt at the group whose first cell this is; those before have ended with that."""
        made = cls(_attempt_at(run, key), uuid.uuid4().hex)
        temporary = made.path.with_name(f"{key}.{made.token}{_ATTEMPT}")
        temporary.write_text(made.token, encoding="ascii")
        temporary.replace(made.path)
        return made

    def check(self) -> None:
        """Raise UserError if another worker has begun the group, or has finished it."""
        with suppress(FileNotFoundError):
            if self.path.read_text(encoding="ascii") == self.token:
                return
        raise UserError(f"cannot write into {self.path.parent.parent}: another worker runs this group now")


def end_attempts(run: Path, key: str) -> None:
    """End all attempts at a group."""
    with suppress(OSError):  # the folder cannot be written any more
        _attempt_at(run, key).unlink(missing_ok=True)


def _attempt_at(run: Path, key: str) -> Path:
    return run / "claims" / f"{key}{_ATTEMPT}"


def _read(path: Path) -> Owner | None:
    """Return the owner in a file, None if it is gone, being written, or not one of ours."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _system() -> str:
    """Return what processes have in common that see each other: two containers may have one host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _started(process: int) -> str | None:
    """Return when a process started, empty where that is not known; None if there is no such process."""
    if not os.path.exists("/proc/self/stat"):
        try:
            os.kill(process, 0)
        except OSError as error:
            return "" if error.errno == errno.EPERM else None
        return ""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]  # a killed process remains until its parent looks at it
