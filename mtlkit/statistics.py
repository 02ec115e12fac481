"""Batch normalisation for one kind of data: running means and variances taken anew, weights as they are.

A network that was trained on several domains in turn has the statistics of the last, or of a mixture, in its shared
layers. Released code (MTAN's for the Visual Decathlon) trains one more epoch on a domain before it is evaluated; here
nothing but the statistics changes, and they are those of all given batches together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .architectures import MultiTaskModel


@contextlib.contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Afterwards, parameters, buffers and mode of the model are what they were."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        model.load_state_dict(before)
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def refreshed(model: MultiTaskModel, batches: Iterable[Mapping[str, Tensor]], tasks: Iterable[str]) -> Iterator[None]:
    """Inside, running statistics are the means of those of these batches; afterwards all is as before.

    Args:
        model: in eval mode inside.
        batches: on the model's device; each counts alike. None leaves the statistics as they are.
        tasks: what is computed of each.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    tasks = list(tasks)
    with kept(model):
        model.eval()
        fresh = True
        for batch in batches:
            for layer in layers if fresh else []:
                layer.train()
                layer.momentum = None  # the mean over all batches
                layer.num_batches_tracked.zero_()  # the first batch replaces what was there
            fresh = False
            with torch.no_grad():
                model(batch, tasks)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.eval()
        yield
