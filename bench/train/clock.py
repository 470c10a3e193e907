"""Time and memory of a group of lanes, measured without waiting for the device within a task."""

import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from bench.plan import Fields

FIRST_STEPS = 10
"""First steps of a task, timed separately: they include allocation, compilation and cold caches."""


class Clock:
    """Seconds of training and scoring, by the host's clock after a synchronisation or by CUDA events."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        cuda = device.type == "cuda"
        self.device_name = torch.cuda.get_device_name(device) if cuda else f"cpu ({platform.machine()})"
        self.seconds = {"train": 0.0, "evaluation": 0.0, "first_steps": 0.0}
        self.steps = self.samples = self.replayed = 0
        self.tokens = {"tokens": 0, "padded": 0}
        self.steady: dict[str, float] = {"steps": 0, "samples": 0, "tokens": 0, "seconds": 0.0}
        """Steps after the first ones, of all tasks that have more."""
        self._at_start = self._after_first = self._evaluation_within = self._evaluation_first = 0.0
        self._event: torch.cuda.Event | None = None
        self._first_event: torch.cuda.Event | None = None
        self._steps_now = self._first_tokens = 0

    def _recorded(self) -> torch.cuda.Event:
        """Return an event in the stream of this device, which need not be torch's current one."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self) -> None:
        """Start the training of a task."""
        self._at_start, self._steps_now, self._after_first = self._now(), 0, 0.0
        self._evaluation_within = self._evaluation_first = 0.0
        if self.device.type == "cuda":
            self._event, self._first_event = self._recorded(), None

    def step(self, step: int, tokens: Mapping[str, Any]) -> None:
        """Record that a step was submitted; the first ones are timed separately.

        Args:
            step: Its number in the task, from 0.
            tokens: Counts of tokens of a text model since the task began.
        """
        self._steps_now = step + 1
        if self._steps_now == FIRST_STEPS:
            self._first_tokens, self._evaluation_first = tokens.get("tokens", 0), self._evaluation_within
            if self._event is not None:
                self._first_event = self._recorded()
            else:
                self._after_first = time.perf_counter()

    def stop(self, samples: int, first_samples: int, tokens: dict[str, Any]) -> None:
        """Stop the training of a task.

        Args:
            samples: Number of rows learned by all lanes.
            first_samples: Number of those learned in the first steps.
            tokens: Counts of tokens of a text model, without and with padding; they are set to 0.
        """
        whole, first = self._now() - self._at_start - self._evaluation_within, 0.0
        if self._steps_now >= FIRST_STEPS:
            if self._first_event is not None and self._event is not None:
                first = self._event.elapsed_time(self._first_event) / 1000
            else:
                first = self._after_first - self._at_start
            first -= self._evaluation_first
        if self._steps_now > FIRST_STEPS:
            self.steady["steps"] += self._steps_now - FIRST_STEPS
            self.steady["samples"] += samples - first_samples
            self.steady["tokens"] += int(tokens.get("tokens", 0) - self._first_tokens)
            self.steady["seconds"] += whole - first
        self.seconds["train"] += whole
        self.seconds["first_steps"] += first
        self.steps += self._steps_now
        self.samples += samples
        for name, count in tokens.items():
            self.tokens[name] += int(count)
            tokens[name] = 0

    @contextmanager
    def scoring(self, within_task: bool) -> Iterator[None]:
        """Return a context whose time is added to evaluation."""
        began = self._now()
        yield
        took = self._now() - began
        self.seconds["evaluation"] += took
        if within_task:
            self._evaluation_within += took

    def timings(self, lanes: int) -> dict[str, float | int]:
        """Return the timings of a record; rates are measured after the first steps if a task has more."""
        rated = (
            self.steady
            if self.steady["steps"]
            else {
                "samples": self.samples,
                "tokens": self.tokens["tokens"],
                "seconds": self.seconds["train"],
            }
        )
        seconds, padded = max(rated["seconds"], 1e-9), self.tokens["padded"]
        texts = {
            "tokens_per_second": rated["tokens"] / seconds,
            "padding_share": 1 - self.tokens["tokens"] / (padded or 1),
        }
        return {
            **(texts if padded else {}),
            "train_seconds": self.seconds["train"],
            "evaluation_seconds": self.seconds["evaluation"],
            "first_steps_seconds": self.seconds["first_steps"],
            "samples_per_second": rated["samples"] / seconds,
            "steps": self.steps,
            "steady_steps": int(self.steady["steps"]),
            "seconds_per_seed": (self.seconds["train"] + self.seconds["evaluation"]) / lanes,
        }

    def state(self) -> Fields:
        """Return what a checkpoint needs."""
        return {
            name: getattr(self, name)
            for name in ("seconds", "steps", "samples", "replayed", "tokens", "steady")
        }

    def load(self, state: Fields) -> None:
        """Continue from a checkpoint; those of earlier versions have no ``steady`` or ``replayed``."""
        self.seconds = dict(state["seconds"])
        self.steps, self.samples, self.tokens = state["steps"], state["samples"], dict(state["tokens"])
        self.steady, self.replayed = dict(state.get("steady", self.steady)), state.get("replayed", 0)


def peak_bytes(device: torch.device) -> int:
    """Return the largest memory use since the group began, of the GPU's allocator; or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak(device: torch.device) -> None:
    """Forget the largest memory use of earlier groups on a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
