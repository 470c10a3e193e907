"""A server for the page of a run in progress, on this machine only."""

from collections.abc import Callable, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from bench.report.layout import Layout
from bench.results import Frames, state_of
from suites.errors import UserError

HOST = "127.0.0.1"


def _is_this_machine(host: str) -> bool:
    """Return whether a ``Host`` header names this machine, with any port: one of a tunnel may differ."""
    try:
        return urlsplit(f"//{host}").hostname in (HOST, "localhost", "::1")
    except ValueError:
        return False


class Live:
    """The page of run folders, rebuilt when their cells have changed."""

    def __init__(self, folders: list[Path], make: Callable[[], str]) -> None:
        self.folders, self.make = folders, make
        self._made: tuple[str, str] = ("", "")
        self._lock = Lock()

    def state(self) -> str:
        """Return text that changes whenever a cell is written."""
        return state_of(self.folders)

    def page(self) -> str:
        """Return the current page."""
        with self._lock:
            state = self.state()
            if self._made[0] != state:
                self._made = (state, self.make())
            return self._made[1]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, live: Live, *rest: Any) -> None:
        self.live = live
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer with the page, or with the state of its run, only if the request names this machine.

        A page of another site could have its name point to this machine, and read the answer.
        """
        if not _is_this_machine(self.headers.get("Host", "")):
            self.send_error(403, "the host must be this machine")
            return
        found = {"/": (self.live.page, "text/html"), "/state": (self.live.state, "text/plain")}.get(self.path)
        if found is None:
            self.send_error(404)
            return
        body = found[0]().encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{found[1]}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def page_server(
    folders: list[Path],
    read: Callable[[], Frames],
    scores: Sequence[str] | None,
    layout: Layout,
    port: int,
) -> ThreadingHTTPServer:
    """Return a server of the page of run folders, which ``read`` returns; see ``server``.

    Raises UserError for runs that contradict each other.
    """
    from bench.report.page import make_page  # matplotlib takes a second to import

    def made() -> str:
        return "".join(make_page(read(), scores, live=True, layout=layout))

    read()
    return server(Live(folders, made), port)


def server(live: Live, port: int = 0) -> ThreadingHTTPServer:
    """Return a server bound to the loopback address; port 0 takes a free one.

    Raises UserError for a port that is not free.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, live))
    except OSError as error:
        raise UserError(f"cannot listen on {HOST}:{port}: {error.strerror}") from None
