"""Time and memory of a group of lanes, measured without stopping the device inside a task."""

import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.plan import Fields

FIRST_STEPS = 10
"""Steps of a task that are timed separately: they pay for allocation, compilation and cold caches."""


class Clock:
    """Seconds spent training and scoring, from the host after a synchronise, or from CUDA events."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        cuda = device.type == "cuda"
        self.device_name = torch.cuda.get_device_name(device) if cuda else f"cpu ({platform.machine()})"
        self.seconds = {"train": 0.0, "evaluation": 0.0, "first_steps": 0.0}
        self.steps = self.samples = 0
        self.tokens = {"tokens": 0, "padded": 0}
        self._at_start = self._after_first = self._evaluation_within = 0.0
        self._event: torch.cuda.Event | None = None
        self._first_event: torch.cuda.Event | None = None
        self._steps_now = 0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self) -> None:
        """A task's training begins."""
        self._at_start, self._steps_now, self._after_first = self._now(), 0, 0.0
        self._evaluation_within = 0.0
        if self.device.type == "cuda":
            self._event, self._first_event = _event(), None
            self._event.record()

    def step(self, step: int) -> None:
        """A step was submitted; the first ones are timed separately."""
        self._steps_now = step + 1
        if self._steps_now == FIRST_STEPS:
            if self._event is not None:
                self._first_event = _event()
                self._first_event.record()
            else:
                self._after_first = time.perf_counter()

    def stop(self, samples: int, tokens: dict[str, int]) -> None:
        """A task's training has ended.

        Args:
            samples: Rows learned over all lanes.
            tokens: A text model's counts of tokens, without and with padding; they are set to 0.
        """
        whole = self._now() - self._at_start
        first = 0.0
        if self._first_event is not None and self._event is not None:
            first = self._event.elapsed_time(self._first_event) / 1000
        elif self._after_first:
            first = self._after_first - self._at_start
        self.seconds["train"] += whole - self._evaluation_within
        self.seconds["first_steps"] += first
        self.steps += self._steps_now
        self.samples += samples
        for name, count in tokens.items():
            self.tokens[name] += count
            tokens[name] = 0

    @contextmanager
    def scoring(self, within_task: bool) -> Iterator[None]:
        """Return a context whose time counts as evaluation."""
        began = self._now()
        yield
        took = self._now() - began
        self.seconds["evaluation"] += took
        if within_task:
            self._evaluation_within += took

    def timings(self, lanes: int) -> dict[str, float | int]:
        """Return the record's timings; samples per second are those after the first steps."""
        steady = max(self.seconds["train"] - self.seconds["first_steps"], 1e-9)
        share = (self.steps - FIRST_STEPS) / self.steps if self.steps > FIRST_STEPS else 1.0
        read, padded = self.tokens["tokens"], self.tokens["padded"]
        texts = {"tokens_per_second": read * share / steady, "padding_share": 1 - read / (padded or 1)}
        return {
            **(texts if padded else {}),
            "train_seconds": self.seconds["train"],
            "evaluation_seconds": self.seconds["evaluation"],
            "first_steps_seconds": self.seconds["first_steps"],
            "samples_per_second": self.samples * share / steady,
            "steps": self.steps,
            "seconds_per_seed": (self.seconds["train"] + self.seconds["evaluation"]) / lanes,
        }

    def state(self) -> Fields:
        """Return what a checkpoint needs."""
        return {"seconds": self.seconds, "steps": self.steps, "samples": self.samples, "tokens": self.tokens}

    def load(self, state: Fields) -> None:
        """Continue from a checkpoint."""
        self.seconds = dict(state["seconds"])
        self.steps, self.samples, self.tokens = state["steps"], state["samples"], dict(state["tokens"])


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory used so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
