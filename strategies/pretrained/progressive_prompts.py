"""Progressive prompts.

Axes: L lanes, T tasks, B batch, P soft prompts of one task, Q soft prompts of several, U units, F features.
"""

import torch
from torch import Tensor

from strategies.core import Batch, Strategy, Unsuitable, mask
from strategies.parts import tuned_transformer


class ProgressivePrompts(Strategy):
    """Progressive prompts: new soft prompts for each task, before those of the tasks so far.

    A row of task t is read as [P_t, ..., P_1, x], and only P_t is trained (Razdaibiedina et al. 2023,
    eq. 3). Where the task of a row is not known when answering, all prompts so far are put before it.
    """

    name = "progressive-prompts"
    family = "pretrained"
    paper = "Razdaibiedina et al. 2023, Progressive prompts for language models"
    needs = "a transformer with tune=prompt, task boundaries"
    needs_boundaries = True
    tunes = "prompt"

    def setup(self) -> None:
        """Make room for every task's prompts; each task starts from the model's first ones."""
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
        """Start the task's prompts."""
        if task > 0:
            self._net.trained["prompt"].copy_(self.first_LPF)
            self.optimiser.reset()  # its moments are those of other prompts

    @torch.no_grad()
    def end_task(self, task: int) -> None:
        """Keep the task's prompts."""
        self.kept_LTPF[:, task] = self._net.trained["prompt"]

    def prompts(self, task: int) -> Tensor:
        """Return the prompts of a task and then those of the tasks before it, latest first, (L, Q, F)."""
        own_LPF = self._net.trained["prompt"] if task == self.task else self.kept_LTPF[:, task]
        return torch.cat([own_LPF, self.kept_LTPF[:, :task].flip(1).flatten(1, 2)], 1)

    def answer(self, batch: Batch, task: int) -> Tensor:
        """Return the logits of all units with the prompts of a task, shape (L, B, U)."""
        prompt_LBQF = self.prompts(task).unsqueeze(1).expand(-1, batch.rows_LB.shape[1], -1, -1)
        logits_LBU: Tensor = self._net.head(self._net.features(batch.x_LBX, prompt_LBQF))
        return logits_LBU

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the task under way."""
        return self.cross_entropy(mask(self.answer(batch, self.task), batch.active_LBU), batch)

    def predict(self, batch: Batch) -> Tensor:
        """Answer each row with the prompts of its task where that may be known, else with all so far."""
        logits_LBU = self.answer(batch, self.task)
        if self.streams.scenario == "task":
            task_LB = self.streams.task_of(batch.rows_LB)
            # Rows to be scored come task by task: a batch has rows of few of them.
            for task in task_LB.unique():
                if task < self.task:
                    own_LBU = self.answer(batch, int(task))
                    logits_LBU = torch.where((task_LB == task).unsqueeze(2), own_LBU, logits_LBU)
        return mask(logits_LBU, batch.active_LBU)
