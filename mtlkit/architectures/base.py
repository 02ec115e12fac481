"""What an architecture promises, and how networks are counted.

Known differences from released nets, of every architecture: raw outputs are logits and vectors of any length. Released
nets end with a log-softmax and a division by the length; here ``Task.loss`` and ``Task.predict`` do both. Parameters of
a weighting (``logsigma`` in MTAN's code) are no part of a network.

Shapes: B batch, C channels, H/W size, T tasks, K channels of a task's raw output.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import KitError, nearest
from ..registry import Registry
from ..tasks import Task

Features = dict[str, Tensor]


class MultiTaskModel(nn.Module):
    """Base of every architecture. A subclass makes ``heads`` and gives ``compute`` and ``task_modules``.

    Attributes:
        inputs: the entries of a batch that ``forward`` reads.
        input_channels: channels of each of them.
        stride: H and W are multiples of it.
        smallest_batch: images that a training batch needs; batch normalisation of maps of one pixel needs two.
        labels: whether a raw output is one answer for an image, (B, K), instead of one for every pixel.
        tasks: in the order given.
        alone: whether this network with one task is what its paper calls a single-task net, a baseline of Delta_MTL.
        heads: the last layers of each task, by name.
        discriminator: what adversarial training of the task gradients needs (``layers.adversarial``); None in most.
    """

    inputs: tuple[str, ...] = ("image",)
    input_channels: Mapping[str, int] = {"image": 3, "flow": 3}
    stride: int = 32
    smallest_batch: int = 1
    labels: bool = False
    alone: bool = False
    heads: nn.ModuleDict
    discriminator: nn.Module | None

    def __init__(self, tasks: Sequence[Task]):
        super().__init__()
        if not all(isinstance(task, Task) for task in tasks):
            raise KitError(f"an architecture needs Task objects, found {list(tasks)}; take them from mtlkit.tasks")
        names = [task.name for task in tasks]
        if not names or len(set(names)) != len(names):
            raise KitError(f"an architecture needs one or more tasks of different names, found {names}; name each once")
        self.tasks = list(tasks)
        self.discriminator = None  # on the object: one on the class would hide the module that a subclass sets
        self._noted: Features | None = None  # where features go while somebody is noting them

    # what a subclass gives

    def compute(self, streams: dict[str, Tensor], names: list[str], features: Features | None) -> dict[str, Tensor]:
        """Task name -> raw output for these tasks, as ``forward``; fills ``features``, where given, without copying."""
        raise NotImplementedError  # abstract

    def task_modules(self, name: str) -> list[nn.Module]:
        """The modules that only this task's loss reaches, however many tasks there are."""
        raise NotImplementedError  # abstract

    def representation(self) -> str | None:
        """Name of the one feature where trunk and heads part; None where there is none."""
        return None

    def last_shared_feature(self) -> str | None:
        """Name of the last feature that all tasks read, whose gradients the pseudo-GradNorm of TI looks at; None where
        there is none.
        """
        return self.representation()

    def last_shared_layer(self) -> nn.Module | None:
        """The layer whose weights GradNorm looks at; None where there is none."""
        return None

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        """Those no task loss is meant to train: a discriminator, say."""
        return []

    def taps(self) -> dict[str, nn.Module]:
        """What ``mtlkit.record`` collects: a fixed name, such as ``mask/depth/encoder2`` -> the module whose output it
        is.
        """
        return {}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by name of a group, for learning-rate multipliers."""
        heads = list(self.heads.parameters())
        return {"backbone": _without(self.parameters(), heads), "heads": heads}

    def own_trunks(self) -> dict[str, nn.Module]:
        """The trunks that start from trained single-task nets, by task, where a paper has them do so."""
        return {}

    # what everyone has

    def initialise_from(self, name: str, state: Mapping[str, Tensor]) -> list[str]:
        """Start a task's own trunk from that of a trained single-task net, in place; nothing else is changed.

        Args:
            name: of the task.
            state: of a model of architecture ``single`` that has this task too.

        Returns:
            The keys of ``state`` that were loaded.

        Raises:
            KitError: where this network has no trunk of the task's own, or ``state`` has none that fits it.
        """
        trunks, prefix = self.own_trunks(), f"trunks.{name}."
        if name not in trunks:
            raise KitError(f"this network has trunks for {list(trunks) or 'no task alone'}, found task {name!r}")
        part = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        if not part:
            raise KitError(f"there is no trunk of task {name!r} in this state; take that of a single-task net of it")
        adopt(trunks[name], part, f"the trunk of {name!r}")
        return [prefix + key for key in part]

    def forward(
        self,
        inputs: Tensor | Mapping[str, Tensor],
        tasks: Iterable[str] | None = None,
        return_features: bool = False,
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], Features]:
        """Raw outputs at input resolution.

        Args:
            inputs: (B, C, H, W) floating point, or a dict that holds one such tensor for each of ``self.inputs``
                (a whole batch will do).
            tasks: names of the tasks to compute; None is all.
            return_features: return the named features besides, among them ``"representation"`` where there is one.

        Returns:
            Task name -> raw output (B, K, H, W), with ``labels`` (B, K); with features a pair of this and the features.

        Raises:
            KitError: an unknown task, inputs that do not fit, or too few images to train on.
        """
        names = self._names(tasks)
        streams = self._streams(inputs)
        features = {} if return_features and self._noted is None else self._noted
        outputs = self.compute(streams, names, features)
        if features is not None and (name := self.representation()) is not None:
            features["representation"] = features[name]
        return (outputs, features) if return_features else outputs

    @contextlib.contextmanager
    def noting_features(self) -> Iterator[Features]:
        """Inside, the features of every forward pass go into the dict that this gives, whoever calls ``forward``."""
        self._noted = {}
        try:
            yield self._noted
        finally:
            self._noted = None

    def task_parameters(self, name: str) -> list[nn.Parameter]:
        """The parameters that no other task's loss reaches. With one task these are all but the auxiliary ones."""
        self._names([name])
        if len(self.tasks) == 1:
            return _without(self.parameters(), self.auxiliary_parameters())
        return [parameter for module in self.task_modules(name) for parameter in module.parameters()]

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters of no single task that are not auxiliary."""
        own = [parameter for task in self.tasks for parameter in self.task_parameters(task.name)]
        return _without(self.parameters(), [*own, *self.auxiliary_parameters()])

    # checks

    def _names(self, tasks: Iterable[str] | None) -> list[str]:
        known = [task.name for task in self.tasks]
        if tasks is None:
            return known
        names = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
        for name in names:
            if name not in known:
                raise KitError(f"this model has the tasks {known}, found {name!r}: {nearest(name, known)}")
        return names

    def _streams(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(inputs, Tensor):
            if len(self.inputs) > 1:
                raise KitError(f"this model reads {list(self.inputs)}, found one tensor; pass a dict with these")
            inputs = {self.inputs[0]: inputs}
        for name in self.inputs:
            if name not in inputs:
                raise KitError(f"this model reads {list(self.inputs)}, found {sorted(inputs)}; add the entry {name!r}")
            check_image(name, inputs[name], self.input_channels[name], self.stride)
        sizes = {name: (len(inputs[name]), *inputs[name].shape[2:]) for name in self.inputs}
        if len(set(sizes.values())) > 1:
            raise KitError(f"all inputs have one batch and size, found (B, H, W) {sizes}; resize them together")
        batch = len(inputs[self.inputs[0]])
        if self.training and batch < self.smallest_batch:
            raise KitError(
                f"in training mode this model needs {self.smallest_batch} images or more for its batch normalisation, "
                f"found {batch}; pass a larger batch, or call .eval() to predict"
            )
        return {name: inputs[name].contiguous(memory_format=torch.channels_last) for name in self.inputs}


ARCHITECTURES: Registry[type[MultiTaskModel]] = Registry("architecture")


def adopt(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state whose names and shapes are exactly those of a module; ``what`` names it in the message.

    A state may lack the counters of batch normalisation, as those saved by old versions of PyTorch do.

    Raises:
        KitError: where it does not fit; the module is left as it was.
    """
    own = module.state_dict()
    for key in {**own, **state}:
        ours, theirs = (tuple(found[key].shape) if key in found else None for found in (own, state))
        if ours != theirs and not (theirs is None and key.endswith("num_batches_tracked")):
            needs, has = (f"of shape {shape}" if shape is not None else "absent" for shape in (ours, theirs))
            raise KitError(f"{what} does not fit: there {key} is {has}, here {needs}; take the same backbone and width")
    module.load_state_dict(state, strict=False)


def check_image(name: str, image: Tensor, channels: int, stride: int) -> None:
    """Raise KitError where ``image`` is not floating point (B, ``channels``, H, W) with multiples of ``stride``."""
    if not isinstance(image, Tensor):
        raise KitError(f"{name!r} is a tensor, found {type(image).__name__}; convert it with torch.as_tensor")
    shape = tuple(image.shape)
    expected = f"{name!r} is a floating-point tensor (B, {channels}, H, W), found {shape} {image.dtype}"
    if not image.is_floating_point():
        raise KitError(f"{expected}; convert it with .float(), and divide by 255 where it holds bytes")
    if image.ndim != 4:
        raise KitError(f"{expected}; {'add the batch axis with [None]' if image.ndim == 3 else 'reshape it'}")
    if shape[1] != channels:
        last = shape[3] == channels
        hint = "move the channels with .permute(0, 3, 1, 2)" if last else f"pass {channels} channels"
        raise KitError(f"{expected}; {hint}")
    height, width = shape[2:]
    if height % stride or width % stride or not height or not width:
        near = "x".join(str(max(stride, round(side / stride) * stride)) for side in (height, width))
        raise KitError(f"{name!r} has H and W in multiples of {stride}, found {height}x{width}; resize it to {near}")


# --- counting ----------------------------------------------------------------------------------------------------

# rule -> the layers that it counts. Batch normalisation, pooling, interpolation and element-wise work never count.
MAC_RULES: dict[str, tuple[type[nn.Module], ...]] = {
    "conv+linear": (nn.Conv2d, nn.ConvTranspose2d, nn.Linear),
    "conv": (nn.Conv2d, nn.ConvTranspose2d),
}


def count_parameters(model: nn.Module) -> int:
    """Numbers in all parameters of the network alone (buffers, such as running means, are not parameters)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(
    model: MultiTaskModel, height: int, width: int, rule: str = "conv+linear", tasks: Iterable[str] | None = None
) -> int:
    """Multiply-accumulates of one forward pass on one image (FLOPs / 2). Nothing is computed.

    A module with a method ``macs(height, width)`` (``Head``) is asked for its own count.

    Args:
        model: left as it is.
        height: of the image, pixels.
        width: of the image, pixels.
        rule: a key of ``MAC_RULES``.
        tasks: names of the tasks to compute; None is all.

    Raises:
        KitError: an unknown rule or task, or a size that the model does not take.
    """
    if rule not in MAC_RULES:
        raise KitError(f"unknown rule for MACs {rule!r}: {nearest(rule, MAC_RULES)}")
    counts: list[int] = []
    inputs = {n: torch.empty(1, model.input_channels[n], height, width, device="meta") for n in model.inputs}
    with contextlib.ExitStack() as changes:
        for module in model.modules():
            changes.callback(setattr, module, "training", module.training)
            if isinstance(module, nn.BatchNorm2d):  # by far the slowest thing to compute without numbers
                module.forward = lambda x: x
                changes.callback(delattr, module, "forward")
            if hasattr(module, "macs") or isinstance(module, MAC_RULES[rule]):
                hook = module.register_forward_hook(lambda *call: counts.append(_macs(*call)))
                changes.callback(hook.remove)
        torch.func.functional_call(model.eval(), _without_storage(model), (inputs, tasks), tie_weights=False)
    return sum(counts)


def _macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    if hasattr(module, "macs"):
        return module.macs(*output.shape[2:])
    if isinstance(module, nn.Linear):
        return output.numel() // module.out_features * module.weight.numel()
    # every weight of a convolution is used once per output position (of a transposed one: per input position)
    positions = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
    return positions.shape[0] * positions[0, 0].numel() * module.weight.numel()


def _without_storage(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, of the same shapes and without memory."""
    return {name: tensor.detach().to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def _without(parameters: Iterable[nn.Parameter], others: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    excluded = {id(parameter) for parameter in others}
    return [parameter for parameter in parameters if id(parameter) not in excluded]
