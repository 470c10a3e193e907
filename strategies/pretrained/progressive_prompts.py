"""Progressive prompts.

Axes: L lanes, T tasks, B batch, P soft prompts of one task, Q soft prompts of several, U units, F features.
"""

import torch
from torch import Tensor

from strategies.core import Batch, Strategy, Unsuitable, mask
from strategies.parts import tuned_transformer


class ProgressivePrompts(Strategy):
    """Progressive prompts: each task adds new soft prompts in front of those of earlier tasks.

    The input of a row of task t is [P_t, ..., P_1, x], and only P_t is trained (Razdaibiedina et al. 2023,
    eq. 3). If the task of a test row is unknown, all prompts so far are used.
    """

    name = "progressive-prompts"
    family = "pretrained"
    paper = "Razdaibiedina et al. 2023, Progressive prompts for language models"
    needs = "a transformer with tune=prompt, task boundaries"
    needs_boundaries = True
    tunes = "prompt"

    def setup(self) -> None:
        """Make room for every task's prompts; each task starts from the model's initial ones."""
        self._net = tuned_transformer(self)
        own_LPF = self._net.trained["prompt"].detach()
        n_prompts, tokens = self.streams.n_tasks * own_LPF.shape[1], self.streams.shape[0]
        if n_prompts + tokens > self._net.places:
            raise Unsuitable(
                f"{self.name} puts {n_prompts} prompts of {self.streams.n_tasks} tasks before "
                f"max_tokens={tokens}, and the model reads {self._net.places:g} in all: set fewer of either"
            )
        self.first_LPF = own_LPF.clone()
        self.kept_LTPF = own_LPF.new_zeros(len(own_LPF), self.streams.n_tasks, *own_LPF.shape[1:])

    @torch.no_grad()
    def begin_task(self, task: int) -> None:
        """Reset the prompts to their initial values."""
        if task > 0:
            self._net.trained["prompt"].copy_(self.first_LPF)
            self.optimiser.reset(alike=False)  # its moments belong to the last task's prompts

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Store the task's prompts."""
        self.kept_LTPF[:, task] = self._net.trained["prompt"]

    def prompts(self, task: int) -> Tensor:
        """Return the prompts of a task and then those of the tasks before it, latest first, (L, Q, F)."""
        own_LPF = self._net.trained["prompt"] if task == self.task else self.kept_LTPF[:, task]
        return torch.cat([own_LPF, self.kept_LTPF[:, :task].flip(1).flatten(1, 2)], 1)

    def task_logits(self, batch: Batch, task: int) -> Tensor:
        """Return the logits of all units with the prompts of a task, shape (L, B, U)."""
        prompt_LBQF = self.prompts(task).unsqueeze(1).expand(-1, batch.rows_LB.shape[1], -1, -1)
        logits_LBU: Tensor = self._net.head(self._net.features(batch.x_LBX, prompt_LBQF))
        return logits_LBU

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss with the prompts of the current task."""
        return self.cross_entropy(mask(self.task_logits(batch, self.task), batch.active_LBU), batch)

    def predict(self, batch: Batch) -> Tensor:
        """Return logits with the prompts of each row's task in task-incremental streams, else with all."""
        logits_LBU = self.task_logits(batch, self.task)
        if self.streams.scenario == "task":
            task_LB = self.streams.task_of(batch.rows_LB)
            # Test rows come task by task: a batch has rows of few tasks.
            for task in task_LB.unique():
                if task < self.task:
                    own_LBU = self.task_logits(batch, int(task))
                    logits_LBU = torch.where((task_LB == task).unsqueeze(2), own_LBU, logits_LBU)
        return mask(logits_LBU, batch.active_LBU)
