"""The loop ``single_tasking``: every batch trains one task after the other, each by a step of its own.

K.-K. Maninis, I. Radosavovic and I. Kokkinos, "Attentive Single-Tasking of Multiple Tasks", CVPR 2019. The network
computes one task at a time, so nothing is summed over tasks: a step moves what this task uses, and neither momentum nor
weight decay touches the parameters of another. Tasks take turns in the order of the recipe; one whose target is ignored
everywhere in a batch is passed over.

Where the network has a discriminator, a task is trained by (1 - w) L + w A: A is how well the discriminator tells from
the gradient of L with respect to the decoder's features which task it belongs to. Its gradient reaches the network
reversed, times alpha (equation and schedule: ``layers.adversarial``).

Shapes: B batch, H/W size.
"""

from __future__ import annotations

from torch import Tensor

from ..layers import adversarial
from ..steplog import StepLog
from ..tasks import Task
from ..weighting import Step
from .session import Batch, Session


class SingleTasking(Session):
    """A run whose batches train their tasks one by one; the weights of ``equal`` multiply the losses."""

    def train_step(self, batches: list[Batch], present: list[Task], log: StepLog) -> None:
        weights = dict(zip(self.weighting.names, self.weighting.constants, strict=True))
        step = Step({}, {})
        for task in present:
            loss, total, noted = self.losses(batches[0], task, weights[task.name])
            # gradients of None, not of 0: the optimiser passes over what this task does not use
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            self.optimizer.step()
            step.losses[task.name] = loss.detach()
            step.weights[task.name] = loss.new_tensor(weights[task.name])
            step.noted |= {(what, task.name): value.detach() for what, value in noted.items()}
        log.add(self.step, step)

    def losses(self, batch: Batch, task: Task, weight: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss of a task, what is to be minimised, and numbers worth noting."""
        inputs = {name: batch[name] for name in self.model.inputs}
        with self.fabric.autocast():
            outputs, features = self.model(inputs, [task.name], return_features=True)
        loss = task.loss(outputs[task.name].float(), batch[task.name])
        share = self.recipe.adversarial.weight
        if self.model.discriminator is None or share == 0:
            return loss, weight * loss, {}
        against, accuracy = adversarial.adversarial_loss(
            self.model.discriminator,
            weight * loss,
            features[f"decoder/{task.name}"],
            self.tasks.index(task),
            task.valid(batch[task.name]),
            self.alpha(),
        )
        total = (1 - share) * weight * loss + share * against
        return loss, total, {"adversarial_loss": against, "adversarial_accuracy": accuracy}

    def alpha(self) -> float:
        """What the discriminator's gradient is multiplied by, reversed, in this epoch."""
        if self.recipe.adversarial.reversal == "constant":
            return 1.0
        return adversarial.ganin(self.epoch, self.recipe.epochs)
