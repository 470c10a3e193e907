"""Two hosts on one machine: network namespaces with a cable between them that can be cut and healed."""

import subprocess
import sys
from contextlib import ExitStack


class TwoHosts:
    """Hosts ``a`` (10.99.0.1) and ``b`` (10.99.0.2); this machine's own network is not touched.

    Raises:
        PermissionError: They cannot be made here; the message says why.
    """

    ADDRESSES = ("10.99.0.1", "10.99.0.2")

    def __init__(self, stack: ExitStack) -> None:
        self._inits = [self._host(stack) for _ in range(2)]
        self._pids = [init.pid for init in self._inits]
        far_end = ["peer", "name", "cable", "netns", str(self._pids[1])]
        self._call(0, "ip", "link", "add", "cable", "type", "veth", *far_end)
        for number, address in enumerate(self.ADDRESSES):
            self._call(number, "ip", "addr", "add", f"{address}/24", "dev", "cable")
            self._call(number, "ip", "link", "set", "lo", "up")
            self._call(number, "ip", "link", "set", "cable", "up")

    def _host(self, stack: ExitStack) -> subprocess.Popen[str]:
        """Start a process in a network of its own, which lasts as long as the stack."""
        words = ["unshare", "--net", sys.executable, "-c", "print(1, flush=True); input()"]
        try:
            init = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except FileNotFoundError as error:
            raise PermissionError(f"{error.filename} is not installed") from None
        stack.enter_context(init)  # closes its pipes
        stack.callback(init.kill)
        assert init.stdout is not None
        if not init.stdout.readline():
            raise PermissionError(init.communicate()[1].strip())
        return init

    def on(self, host: int) -> list[str]:
        """Return the words before a command that runs on a host."""
        return ["nsenter", f"--net=/proc/{self._pids[host]}/ns/net", "--"]

    def _call(self, host: int, *words: str) -> None:
        try:
            done = subprocess.run([*self.on(host), *words], capture_output=True, text=True)
        except FileNotFoundError as error:
            raise PermissionError(f"{error.filename} is not installed") from None
        if done.returncode:
            raise PermissionError(f"{' '.join(words)}: {done.stderr.strip()}")

    def cut(self) -> None:
        """Cut the cable."""
        self._call(0, "ip", "link", "set", "cable", "down")

    def heal(self) -> None:
        """Join the cable again."""
        self._call(0, "ip", "link", "set", "cable", "up")
