"""Random numbers per lane, the same on every device and with any other lanes.

A draw is a hash (SplitMix64, Steele, Lea & Flood 2014) of the lane's seed, the task, the name of the draw
and a counter. It needs no state in checkpoints, no loop over generators and no copy from the host.

Axes: L lanes, S steps, B draws.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from suites.base import derive

_GOLDEN = 0x9E3779B97F4A7C15
_STEPS_AT_ONCE = 64
"""A draw takes a dozen small operations; computing many steps' draws together makes them nearly free."""


STREAMS = {
    "anchors": "HAL: pixels that a task's anchors start from",
    "augment replay": "replay methods: crops and flips of stored rows",
    "augment both": "RAR: shift, flip and noise of new and stored rows",
    "candidates": "MIR: stored rows to choose from",
    "class models": "generative classifier: noise of training",
    "class rows": "generative classifier: orders of a class's rows",
    "class/{}": "generative classifier: initial weights of a class's model",
    "coda-prompt/{}": "CODA-Prompt: directions of a task's components",
    "compare": "GSS: stored rows that gradients are compared with",
    "contest": "GSS: which row gets a slot",
    "crops": "SCR: second views",
    "dropout": "networks with dropout: features that are set to zero",
    "dreams": "DGR and BI-R: noise of training and of generated rows",
    "epoch": "GDumb: orders of the memory",
    "exemplars": "class-incremental methods: exemplars to replay",
    "feedback": "BI-R: initial weights and gates of the decoder",
    "fisher": "EWC: sampled classes",
    "gates": "BI-R: tasks whose gates are open for generated rows",
    "gates {}": "XdG: closed units of a layer",
    "generator": "DGR: initial weights of the generator",
    "gpm": "GPM: rows that directions are taken from",
    "greedy": "greedy balance: rows that are replaced",
    "hat/{}": "HAT: embeddings of a layer",
    "importance": "generative classifier: importance samples of predictions",
    "incoming {}": "continual backpropagation: new incoming weights of a layer",
    "key": "balanced reservoir: keys of rows",
    "l2p/key": "L2P: keys of the pool",
    "labels": "DER++: stored rows whose labels are replayed",
    "laterals/{}": "progressive networks: initial lateral connections of a task",
    "layer {}": "ReDo: new incoming weights of a layer",
    "logits": "DER: stored rows whose logits are matched",
    "lora/{}": "LoRA: initial factors of a task",
    "mix": "DGR with a GAN: points between real and generated rows",
    "modes": "BI-R: units of generated rows",
    "network/{}": "a network per task: initial weights of a task's network",
    "ogd": "OGD: rows that directions are taken from",
    "order of classes": "balanced reservoir: order of equally large classes",
    "partners": "ER-AML: positives and negatives",
    "pass": "generative classifier: order of one pass",
    "per class": "memories written after a task: rows of each class",
    "perturb/{}": "shrink and perturb: noise of a task",
    "plastic": "CLS-ER: steps at which the plastic model moves",
    "ranpac/projection": "RanPAC: random projection",
    "recycle": "ReDo: key of a step's new weights",
    "reference": "A-GEM: stored rows of the reference gradient",
    "replay": "replay methods: stored rows of a step",
    "reservoir": "reservoir sampling: slots of rows",
    "rivals": "GSS: stored rows that may be replaced",
    "rows": "FDR: rows of a task to store",
    "scores/{}/{}": "SupSup: initial scores of a task and layer",
    "scr projection": "SCR: initial weights of the projection",
    "stable": "CLS-ER: steps at which the stable model moves",
    "tuning": "HAL: order of the memory in training on it",
    "watched rows": "adaptive replay: which rows are watched",
}
"""The name and purpose of every random stream of the built-in methods; {} is a number. A method of your own
may use any name; if it is listed here, both methods share the stream when they are composed."""


def _signed(value: int) -> int:
    """Return a 64-bit pattern as an int64 number."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic: it keeps the sign."""
    return (z >> bits) & (int(2 ** (64 - bits)) - 1)


def splitmix64(z: Tensor) -> Tensor:
    """Return SplitMix64's output function of the 64-bit patterns in an int64 tensor."""
    z = (z ^ _shift_right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift_right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift_right(z, 31)


class NotAlike(Exception):
    """The steps of a task cannot be captured once and replayed; the message says why."""


class Ahead:
    """The numbers of a stream for many steps, computed together.

    Attributes:
        block_LKn: The numbers of K steps, n a step.
        steps: Views of the block, one a step, (L, n) each.
        start: The count of the block's first step.
        at: In steps that are replayed, the position in the block, on the device.
        position: The same position on the host.
        reads: How often a step that is replayed draws from the stream.
    """

    def __init__(self, block_LKn: Tensor, start: int) -> None:
        self.block_LKn, self.start = block_LKn, start
        self.steps = block_LKn.unbind(1)
        self.at: Tensor | None = None
        self.position = self.reads = 0

    def holds(self, count: int) -> bool:
        """Return whether the numbers of a step, by its count, are in the block."""
        return 0 <= count - self.start < _STEPS_AT_ONCE


class Draws:
    """Uniform draws for all lanes, named by their purpose."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str) -> None:
        self.seeds, self.device = tuple(seeds), device
        self._drawn: dict[tuple[str, int], tuple[int, Ahead | None]] = {}
        self._length: dict[str, int] = {}
        self.plans: dict[object, Any] = {}
        """What other objects computed ahead from the draws of this task, by the object."""
        self.filled: set[object] = set()
        """Memories in which every lane is known, on the host, to have a row."""
        self.sources: list[Any] = []
        """Other sources of random numbers, which follow a step that is captured as these draws do."""
        self._by_cursor = False
        self.begin(0)

    def begin(self, task: int) -> None:
        """Start the draws of a task: each name's counter restarts at zero."""
        keys = [derive(seed, f"draws/{task}") for seed in self.seeds]
        self._key_L1 = torch.tensor(keys, device=self.device).unsqueeze(1)
        self._drawn.clear()
        self._length.clear()
        self._by_cursor = False
        self.plans.clear()
        self.filled.clear()

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Forget afterwards what is drawn inside: scores within a task do not change what is learned."""
        before = dict(self._drawn), dict(self._length)
        yield
        self._drawn, self._length = before

    def uniform(self, name: str, n: int) -> Tensor:
        """Return the next numbers of a stream for every lane.

        Args:
            name: The purpose of the numbers; see ``STREAMS``. Within a task, draws of a length other than
                the first of that name use a separate stream, so that no number is returned twice.
            n: How many numbers.

        Returns:
            Numbers in [0, 1), float64, shape (L, n).
        """
        if self._by_cursor:
            return self._at_cursor(name, n)
        ahead, step = self.ahead(name, n)
        return ahead.steps[step]

    def ahead(self, name: str, n: int) -> tuple[Ahead, int]:
        """Draw as ``uniform`` does; return the numbers of many steps, and which of them are this step's."""
        count, ahead = self._drawn.get((name, n), (0, None))
        if ahead is None or not ahead.holds(count):
            ahead = self._renewed(ahead, name, n, count)
        self._drawn[name, n] = count + 1, ahead
        return ahead, count - ahead.start

    def _renewed(self, ahead: Ahead | None, name: str, n: int, count: int) -> Ahead:
        """Return the numbers from ``count`` on; in place if a captured step reads them."""
        if ahead is None or ahead.at is None:
            return Ahead(self._block(name, n, count), count)
        ahead.block_LKn.copy_(self._block(name, n, count))
        ahead.start = count
        return ahead

    def by_cursor(self, on: bool) -> None:
        """Let a step that is captured read its draws at positions that are on the device, or end this."""
        self._by_cursor = on

    def end_replays(self) -> None:
        """After the last step of a task that was replayed."""
        self._by_cursor = False
        for source in self.sources:
            source.forget()

    @property
    def can_plan(self) -> bool:
        """Whether a step may use what was computed ahead on the host: not while it is captured."""
        return not self._by_cursor

    def _at_cursor(self, name: str, n: int) -> Tensor:
        _, ahead = self._drawn.get((name, n), (0, None))
        if ahead is None or ahead.at is None:
            raise NotAlike(f"a later step draws {name} for the first time")
        if ahead.reads == _STEPS_AT_ONCE:
            raise NotAlike(f"a step draws {name} more than {_STEPS_AT_ONCE} times")
        ahead.reads += 1
        drawn_Ln = ahead.block_LKn.index_select(1, ahead.at).squeeze(1)
        ahead.at.add_(1)
        return drawn_Ln

    def watch(self) -> None:
        """Before the last step that is taken one by one: note what steps draw."""
        for source in self.sources:
            source.watch()

    def prepare(self) -> None:
        """Before a step is captured or replayed: have the numbers that it will read in place."""
        for source in self.sources:
            source.prepare()
        for (name, n), (count, ahead) in self._drawn.items():
            assert ahead is not None
            if ahead.at is None:
                ahead.at = torch.zeros(1, dtype=torch.long, device=self.device)
            if not (ahead.holds(count) and ahead.holds(count + max(0, ahead.reads - 1))):
                self._renewed(ahead, name, n, count)
            if ahead.position != count - ahead.start:
                ahead.position = count - ahead.start
                ahead.at.fill_(ahead.position)

    def advance(self) -> None:
        """After a step was captured or replayed: count what it drew."""
        for source in self.sources:
            source.advance()
        for key, (count, ahead) in self._drawn.items():
            assert ahead is not None
            ahead.position += ahead.reads
            self._drawn[key] = count + ahead.reads, ahead

    def _block(self, name: str, n: int, count: int) -> Tensor:
        counter = torch.arange(count * n, (count + _STEPS_AT_ONCE) * n, device=self.device)
        stream = name if self._length.setdefault(name, n) == n else f"{name}/{n}"
        start_L1 = splitmix64(self._key_L1 ^ zlib.crc32(stream.encode()))
        bits = splitmix64(start_L1 + (counter + 1) * _signed(_GOLDEN))
        unit = _shift_right(bits, 11).double() * 2.0**-53
        return unit.view(-1, _STEPS_AT_ONCE, n)

    def below(self, name: str, limit_L: Tensor, n: int) -> Tensor:
        """Return n integers in [0, limit) for every lane, int64, shape (L, n); 0 where the limit is 0."""
        return (self.uniform(name, n) * limit_L.unsqueeze(1)).long()


def hashed_uniform(key_L: Tensor, name: str, n: int) -> Tensor:
    """Return n numbers in [0, 1) computed from one such number a lane, float64, shape (L, n).

    For draws at steps that differ from lane to lane: every lane draws its key at every step, and the n
    numbers are computed only when some lane needs them.
    """
    counter = torch.arange(n, device=key_L.device)
    start_L = splitmix64((key_L * 2.0**53).long() ^ zlib.crc32(name.encode()))
    bits = splitmix64(start_L.unsqueeze(1) + (counter + 1) * _signed(_GOLDEN))
    return _shift_right(bits, 11).double() * 2.0**-53
