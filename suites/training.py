"""Training settings of a task, and the conditions under which each has an effect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from suites.errors import UserError
from suites.values import Bounds, Later, Search, only_if, unless


@dataclass(frozen=True)
class Training:
    """Training settings of a task. ``--set NAME=VALUE`` changes any field.

    Example:
        ```python
        lethe.Training(epochs=20, batch=16, optimiser="adam", lr=1e-3)
        ```
    """

    epochs: Annotated[int, unless("one_pass", True), only_if("iterations", 0)] = 1
    """Passes over the training rows of a task; used if ``iterations`` is 0."""
    iterations: Annotated[int, unless("one_pass", True)] = 0
    """Steps per task; if above 0, epochs are repeated and incomplete last batches are dropped."""
    batch: int = 32
    """Rows of the current task in each step."""
    optimiser: Annotated[Literal["sgd", "momentum", "adam", "adamw"], unless("gradient_free", True)] = "sgd"
    """Update rule: sgd, momentum (SGD with momentum), adam or adamw."""
    lr: Annotated[float, Search(0.1, 10, log=True, times=True), unless("gradient_free", True)] = 0.1
    """Learning rate; lanes may have different ones."""
    weight_decay: Annotated[float, unless("gradient_free", True)] = 0.0
    """L2 added to the gradient (sgd, momentum, adam) or decoupled (adamw)."""
    reset_optimiser: Annotated[
        bool,
        unless("gradient_free", True),
        unless("restarts", True),
        unless("trains_on", "all"),
        unless("optimiser", "sgd"),
    ] = False
    """Start every task with a fresh optimiser."""
    momentum: Annotated[float, Bounds(0.0, 1.0), only_if("optimiser", "momentum"), Later()] = 0.9
    """Factor of the moment in each step."""
    nesterov: Annotated[bool, only_if("optimiser", "momentum"), Later()] = False
    """Nesterov's momentum, in torch's form."""
    beta1: Annotated[float, Bounds(0.0, 1.0), only_if("optimiser", "adam", "adamw"), Later()] = 0.9
    """Factor of the first moment of adam and adamw in each step."""
    beta2: Annotated[float, Bounds(0.0, 1.0), only_if("optimiser", "adam", "adamw"), Later()] = 0.999
    """Factor of the second moment of adam and adamw in each step."""
    clip: Annotated[float, Bounds(0.0), unless("gradient_free", True), Later()] = 0.0
    """Largest norm of a gradient over all parameters of a lane, scaled down if it is larger; 0 for no limit.
    Parameters that a method trains beside the network have a norm of their own."""
    schedule: Annotated[
        Literal["constant", "linear", "cosine", "multi-step"], unless("gradient_free", True), Later()
    ] = "constant"
    """How the learning rate changes: not at all; linearly or by half a cosine to final * lr; or by the factor
    decay at each of the milestones."""
    over: Annotated[Literal["task", "stream"], unless("gradient_free", True), Later()] = "task"
    """Whether schedule and warm-up begin again at every task, or run once over the whole stream."""
    warmup: Annotated[int, Bounds(0), unless("gradient_free", True), Later()] = 0
    """Steps in which the learning rate first rises linearly from lr / warmup to lr; the schedule follows."""
    final: Annotated[float, Bounds(0.0), only_if("schedule", "linear", "cosine"), Later()] = 0.0
    """What the learning rate is multiplied by at the end of a linear or cosine schedule."""
    milestones: Annotated[str, only_if("schedule", "multi-step"), Later()] = ""
    """Epochs after which a multi-step schedule multiplies the learning rate by decay, as 49-63; steps if
    ``iterations`` is set."""
    decay: Annotated[float, Bounds(0.0), only_if("schedule", "multi-step"), Later()] = 0.1
    """What a multi-step schedule multiplies the learning rate by."""
    label_smoothing: Annotated[float, Bounds(0.0, 1.0), unless("gradient_free", True), Later()] = 0.0
    """Share of each label that is spread over all active units (Szegedy et al. 2016), in cross-entropies."""
    first_task: Annotated[int, Bounds(0), unless("one_pass", True), unless("trains_on", "all"), Later()] = 0
    """Epochs of the first task, or its steps if ``iterations`` is set; 0 for as many as later tasks."""
    patience: Annotated[int, Bounds(0), unless("one_pass", True), Later()] = 0
    """Stop a task when the validation accuracy of its rows has not improved for so many passes, and go back
    to the network's weights of the best pass; 0 for never. What a method stores or trains beside the network
    stays as after the last pass."""
    active: Annotated[Literal["all", "seen"], only_if("scenario", "class", "online")] = "all"
    """Units of a class-incremental head: all from the start, or only those of classes seen so far."""
    boundaries: Literal["shown", "hidden"] = "shown"
    """Whether strategies see when a task begins and ends."""
    augment: bool = False
    """Random crops (4 pixels of padding) and horizontal flips of colour images."""
    raw_replay: Annotated[bool, only_if("augment", True), Later()] = False
    """Replay rows without augmenting them again each time they are read."""
    validation: float = 0.1
    """Share of a task's training rows held out for validation, drawn by the seed."""
    shots: Annotated[int, Later()] = 0
    """Training rows of each class of a task, drawn by the seed; 0 for all."""
    rows_per_class: Annotated[int, Later()] = 0
    """Largest number of training rows, and of test rows, of each class of a task; 0 for all."""
    eval: Annotated[str, Later()] = "all"
    """Tasks that are scored after each task: ``all`` of them, also before training; ``last``: all, after the
    last task only; ``diagonal``: the task just learned, and all after the last; ``every=k``: all, after every
    k tasks, 0 among them, and after the last. Scores that need other entries of R are not defined."""
    score_every: int = 0
    """Score the validation rows of all tasks after this many steps each time; 0 for never."""
    prequential: Annotated[bool, Later()] = False
    """Predict every batch before it is learned, for prequential scores (Gama et al. 2013): test, then train.
    Needs one pass."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Arithmetic: float32 everywhere; tf32 in products and convolutions on a GPU; or bfloat16 in the forward
    pass, by autocast."""
    deterministic: Annotated[bool, Later()] = False
    """On a GPU, compute with deterministic kernels only; a cell that needs another one fails by its name."""
    compile: bool = False
    """Compile the forward pass of training steps with torch.compile; methods with steps of their own and
    transformers are refused."""

    def scored_after(self, tasks_done: int, n_tasks: int) -> range:
        """Return the tasks, counted from 0, that are scored after a number of tasks: a row of R."""
        every = whole_rows_every(self.eval)
        if tasks_done == n_tasks or (every and tasks_done % every == 0):
            return range(n_tasks)
        return range(tasks_done - 1, tasks_done) if self.eval == "diagonal" and tasks_done else range(0)

    def of_task(self, task: int) -> Training:
        """Return the settings of a task, counted from 0: the first may have more epochs or iterations."""
        if task or not self.first_task:
            return self
        if self.iterations:
            return replace(self, iterations=self.first_task)
        return replace(self, epochs=self.first_task)

    def steps(self, rows: int, tasks: int = 1) -> tuple[int, int]:
        """Return the number of steps of one pass, and of the whole training.

        With ``iterations``, the incomplete last batch of a pass is dropped, unless it is the only batch.

        Args:
            rows: Number of training rows.
            tasks: Number of tasks that these rows are from; ``iterations`` are taken for each.
        """
        if self.iterations and rows >= self.batch:
            steps = self.iterations * tasks
            return min(rows // self.batch, steps), steps
        per_pass = -(-rows // self.batch)
        return per_pass, per_pass * (self.iterations * tasks or self.epochs)


def whole_rows_every(choice: str) -> int:
    """Return after how many tasks each time all tasks are scored, 0 for only after the last.

    Args:
        choice: The setting ``eval``.

    Raises:
        UserError: It is none of its values.
    """
    name, _, number = choice.partition("=")
    if name == "every" and number.isascii() and number.isdecimal() and str(int(number)) == number != "0":
        if number == "1":
            raise UserError("eval=every=1 scores all tasks after every task: write eval=all")
        return int(number)
    if choice not in ("all", "last", "diagonal"):
        raise UserError(f"cannot read eval={choice}; write all, last, diagonal, or every=10")
    return int(choice == "all")
