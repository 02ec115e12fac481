"""The loop ``per_domain``: every batch is of one domain, which is one task.

As the Visual Decathlon is trained by MTAN (S. Liu, E. Johns and A. J. Davison, CVPR 2019): ten sets of images, ten
tasks, one network. ``order = "sequential"`` (as released) goes through the domains one after the other, each in one
whole pass; ``"interleaved"`` mixes the batches of all. Phases leave domains out: MTAN's second has no ImageNet.

Layers of batch normalisation that domains share have seen them all, so ``statistics`` says what is done for a domain
before it is measured: ``"none"``; ``"refresh"`` (the corrected form), their statistics taken anew from its training
images, without a change of any weight; ``"train"`` (as released), one more epoch of training on it, of its validation
images too where test is measured. Afterwards the network is what it was.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from .. import evaluation, statistics
from ..datasets import MultiTaskDataset
from ..tasks import Task
from ..transforms import generator
from .checks import steps_of
from .session import Batch, Session


class PerDomain(Session):
    """A run whose dataset has ``indices``: task -> the samples of its domain."""

    def steps(self, epoch: int) -> int:
        return sum(steps_of(self.recipe, len(self.train_data.indices[task.name])) for task in self.active(epoch))

    def chunks(self, k: int) -> list[list[int]]:
        chunks = [chunk for task in self.active(self.epoch) for chunk in self.passes(task, self.train_data)]
        if self.recipe.order == "interleaved":
            mixed = torch.randperm(len(chunks), generator=generator(self.recipe.seed, "domains", self.epoch))
            chunks = [chunks[i] for i in mixed.tolist()]
        return chunks

    def passes(self, task: Task, data: MultiTaskDataset) -> list[list[int]]:
        """The batches of one pass through a domain, in the order of this epoch."""
        indices = data.indices[task.name]
        order = torch.randperm(len(indices), generator=generator(self.recipe.seed, "order", task.name, self.epoch))
        return self.cut(order + indices[0])

    # evaluation

    def measure(self, dataset: MultiTaskDataset) -> list[evaluation.Row]:
        rows = []
        for task in self.tasks:
            with self.ready_for(task, dataset):
                found = dataset.indices[task.name]
                data = self.on_device(evaluation.batches(dataset, self.fields(), self.recipe, self.workers, found))
                rows += evaluation.measure(self.model, [task], data, self.recipe.protocols, self.fabric.autocast)
        return rows

    def ready_for(self, task: Task, dataset: MultiTaskDataset) -> contextlib.AbstractContextManager:
        """Inside, the network is as it is to be measured on a domain."""
        if self.recipe.statistics == "refresh":
            seen = evaluation.glimpse(self.train_data, task.name, self.fields(), self.recipe, self.workers)
            return statistics.refreshed(self.model, self.on_device(seen), [task.name])
        if self.recipe.statistics == "train":
            return self.trained_once_more(task, dataset)
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def trained_once_more(self, task: Task, dataset: MultiTaskDataset) -> Iterator[None]:
        """Inside, the network has seen the domain for an epoch more."""
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        validating = dataset is self.final_data and self.final_data is not self.held_out
        with statistics.kept(self.model):
            self.model.train()
            for data in [self.train_data, self.held_out] if validating else [self.train_data]:
                view = evaluation.View(data, self.fields(), self.recipe, self.epoch)
                own = generator(self.recipe.seed, "loader", self.epoch)
                chunks = self.passes(task, data)
                loader = DataLoader(view, batch_sampler=chunks, num_workers=self.workers, generator=own)
                for batch in self.on_device(loader):
                    self.optimizer.zero_grad(set_to_none=True)
                    with self.fabric.autocast():
                        outputs = self.model({name: batch[name] for name in self.model.inputs}, [task.name])
                    task.loss(outputs[task.name].float(), batch[task.name]).backward()
                    self.optimizer.step()
            self.optimizer.load_state_dict(optimizer)
            yield

    def on_device(self, loader: DataLoader) -> Iterator[Batch]:
        return (self.fabric.to_device(batch) for batch in loader)
