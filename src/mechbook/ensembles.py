"""Many members of one architecture, trained as one stacked program.

Each parameter of the members (seeds × settings) is stacked along a leading axis,
``torch.func.vmap`` runs one member's loss over that axis, and ``mechbook.training.train`` does the
rest: one loop, one backward pass, one optimizer for all. The gradient of the summed losses with
respect to a member's parameters is the gradient of that member's own loss, and the optimizers
allowed here work element by element, so each member ends where it would have ended alone, up to
the rounding of floating point sums. (Adam divides a gradient by its size: a parameter whose
gradient is nothing but rounding, such as the bias of the keys in attention, may differ visibly,
without effect on what the model computes.) ::

    def loss(model, batch, setting):                  # one member, one batch, one setting
        return (model(batch) - batch).pow(2).mean()

    def batches(step):                                # [member, batch, feature]
        draws = [training.generator(seed, step) for seed in seeds]
        return torch.stack([torch.rand(256, 5, generator=draw) for draw in draws])

    ensemble, history = train_ensemble(models, loss, batches=batches, steps=1000)
    history.loss                                      # [step, member]
    ensemble.members()                                # the trained modules

It pays where a step is mostly the starting of many small operations, as for the book's toy
models; where one member alone keeps the processor busy with arithmetic, there is little to gain.

In attention use an explicit softmax: ``F.scaled_dot_product_attention`` gives the same numbers,
but its fast CPU kernel has no batching rule, and ``vmap`` then runs it member by member.

A ``TransformerBridge`` made by ``boot_native`` stacks too, as it is: give a list of bridges, and
``ensemble.members()`` gives back bridges, hooks and caches included.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils import _pytree as pytree

from mechbook import training
from mechbook.training import History, Metrics

MemberLoss = Callable[[Any, Any, Any], Tensor]
_MIXES_ELEMENTS = ("LBFGS", "Muon", "Adafactor")


class Ensemble(nn.Module):
    """Members of one architecture with their parameters stacked along a leading axis.

    Args:
        models: at least one module; all with parameters of the same names, shapes and dtypes.
            They are copied, not changed. Tied parameters stay tied, frozen ones frozen. Buffers
            must not change in the forward pass (no batch normalization).

    Raises:
        ValueError: no model, or two whose parameters do not match.
    """

    def __init__(self, models: Sequence[nn.Module]):
        """Stack copies of the models."""
        super().__init__()
        _refuse_different(models)
        self.size = len(models)
        # In a list, so that their parameters are none of the ensemble's. Two copies, because
        # a module may keep what passed through it, and then it cannot be copied any more.
        self._templates = [_Call(copy.deepcopy(models[0])), _Call(copy.deepcopy(models[0]))]
        parameters, buffers = stack_module_state(list(models))
        for name, stacked in parameters.items():
            self.register_parameter(
                _flat(name), nn.Parameter(stacked.detach(), requires_grad=stacked.requires_grad)
            )
        self._alike = {name for name, stacked in buffers.items() if _alike(stacked)}
        for name, stacked in buffers.items():
            self.register_buffer(_flat(name), stacked[0] if name in self._alike else stacked)
        self._names = (list(parameters), list(buffers))

    def map(self, function: Callable[..., Any], *arguments: Any, shared: Sequence[int] = ()) -> Any:
        """``function(member, *arguments)`` for all members at once.

        Args:
            function: takes one member (a module like those given) and its arguments, and returns
                tensors. It runs under ``torch.func.vmap``: no ``.item()``, no branch on values.
            arguments: tensors with a leading axis of members, or nested tuples, lists and dicts
                of them; whatever is no tensor is handed to every member as it is.
            shared: positions of the arguments that every member gets whole.

        Returns:
            What the function returns, each tensor with a leading axis of members.

        Raises:
            ValueError: a tensor's leading axis is not the number of members.
        """
        template = self._templates[0]
        parameters, buffers = ({n: getattr(self, _flat(n)) for n in part} for part in self._names)
        axes = [self._axes(value, i in shared) for i, value in enumerate(arguments)]

        def one(parameters: dict, buffers: dict, *rest: Any) -> Any:
            state = {f"model.{name}": value for name, value in (parameters | buffers).items()}
            return functional_call(template, state, (function, *rest))

        buffer_axes = {name: None if name in self._alike else 0 for name in buffers}
        program = vmap(one, in_dims=(0, buffer_axes, *axes), randomness="different")
        return program(parameters, buffers, *arguments)

    def members(self) -> list[nn.Module]:
        """The members as ordinary modules: copies of the first model with their own values."""
        return [self.member(index) for index in range(self.size)]

    def member(self, index: int) -> nn.Module:
        """A copy of the first model that holds the values of one member."""
        model = copy.deepcopy(self._templates[1].model)
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, tensor in tensors.items():
                stacked = getattr(self, _flat(name))
                tensor.copy_(stacked if name in self._alike else stacked[index])
        return model

    def _axes(self, argument: Any, shared: bool) -> Any:
        def axis(leaf: Any) -> int | None:
            if shared or not isinstance(leaf, Tensor):
                return None
            if leaf.shape[:1] != (self.size,):
                raise ValueError(
                    f"a tensor of shape {list(leaf.shape)} was given to {self.size} members; "
                    f"stack one value a member along a leading axis of {self.size}, or mark it "
                    "as shared"
                )
            return 0

        return pytree.tree_map(axis, argument)


class _Call(nn.Module):
    """Makes a function of a module into a module, which is what ``functional_call`` calls."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.model, *arguments)


def _flat(name: str) -> str:
    return "member/" + name.replace(".", "/")


def _alike(stacked: Tensor) -> bool:
    """True where every member has the same values, such as a causal mask."""
    return bool((stacked == stacked[:1]).all())


def _refuse_different(models: Sequence[nn.Module]) -> None:
    if not models:
        raise ValueError("an ensemble needs at least one model; none was given")
    first = _shapes(models[0])
    for index, model in enumerate(models):
        if _shapes(model) != first:
            raise ValueError(
                f"model {index} has other parameters than model 0; an ensemble needs the same "
                "names, shapes and dtypes. Train other shapes in an ensemble of their own"
            )


def _shapes(model: nn.Module) -> dict[str, tuple]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: (t.shape, t.dtype, t.requires_grad) for name, t in named}


def train_ensemble(
    models: Sequence[nn.Module],
    loss: MemberLoss,
    *,
    steps: int,
    batches: Callable[[int], Any] | None = None,
    shared_batches: bool = False,
    settings: Any = None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    lr: float | Float[Tensor, " member"] = 1e-3,
    weight_decay: float | Float[Tensor, " member"] | None = None,
    scheduler: Callable[[Any], torch.optim.lr_scheduler.LRScheduler] | None = None,
    clip: float | None = None,
    metrics: Metrics | None = None,
    metrics_every: int = 25,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 500,
    label: str = "training",
    progress: bool | None = None,
) -> tuple[Ensemble, History]:
    """Train copies of all models at once, each as if it were alone.

    Args:
        models: the members at their start, see `Ensemble`.
        loss: ``loss(model, batch, setting)`` → scalar, for one member; see `Ensemble.map` for
            what it may do.
        steps: updates in all.
        batches: ``batches(step)`` → tensors with a leading axis of members, nested at will.
        shared_batches: every member gets the whole of ``batches(step)``, without that axis.
        settings: tensors with a leading axis of members (a sparsity, a coefficient), nested at
            will; ``loss`` gets its member's.
        optimizer: called as ``optimizer(parameters, lr=lr)``; use ``functools.partial`` for more.
            It must work element by element (SGD, Adam, AdamW, RMSprop and the like).
        lr: learning rate, one for all or one a member.
        weight_decay: decoupled, as in AdamW: parameters shrink by ``1 - lr * weight_decay`` before
            each update; one for all or one a member. Replaces the optimizer's own.
        scheduler: called with the optimizer; it scales the rates of all members alike.
        clip: greatest norm of each member's gradient.
        metrics: ``metrics(ensemble, step)`` → ``{name: array}``; use ``ensemble.map`` in it.
        metrics_every: as in ``training.train``.
        checkpoint: as in ``training.train``.
        checkpoint_every: as in ``training.train``.
        label: as in ``training.train``.
        progress: as in ``training.train``.

    Returns:
        The trained members, and the record, whose loss is ``[step, member]``.

    Raises:
        TrainingError: as in ``training.train``; a loss that is not finite names step and member.
        ValueError: shapes that do not fit the members, or an optimizer that mixes elements.
    """
    ensemble = Ensemble(models)
    trained = [p for p in ensemble.parameters() if p.requires_grad]
    stacked = _optimizer(optimizer, trained, ensemble.size, lr, weight_decay)
    whole = (0,) if shared_batches else ()

    def losses(ensemble: Ensemble, step: int) -> Float[Tensor, " member"]:
        batch = None if batches is None else batches(step)
        return ensemble.map(loss, batch, settings, shared=whole)

    history = training.train(
        ensemble,
        losses,
        optimizer=stacked,
        steps=steps,
        scheduler=None if scheduler is None else scheduler(stacked),
        clip=clip,
        metrics=metrics,
        metrics_every=metrics_every,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        settings=[settings, lr, weight_decay],
        label=label,
        progress=progress,
    )
    return ensemble, history


def _optimizer(
    build: Callable[..., torch.optim.Optimizer],
    parameters: list[nn.Parameter],
    size: int,
    lr: float | Float[Tensor, " member"],
    weight_decay: float | Float[Tensor, " member"] | None,
) -> torch.optim.Optimizer:
    """The optimizer over stacked parameters, taught rates and decays that differ by member."""
    rates = _per_member("lr", lr, size)
    greatest = float(rates.max())
    optimizer = build(parameters, lr=greatest)
    if type(optimizer).__name__ in _MIXES_ELEMENTS:
        raise ValueError(
            f"{type(optimizer).__name__} mixes the elements of a parameter, and so the members; "
            "use one that works element by element, such as SGD, Adam or AdamW"
        )
    if weight_decay is not None:
        decays = _per_member("weight_decay", weight_decay, size)
        _decay_by_member(optimizer, decays * rates / greatest)
    if isinstance(lr, Tensor) and greatest > 0:
        _scale_by_member(optimizer, rates / greatest)
    return optimizer


def _per_member(name: str, value: float | Tensor, size: int) -> Float[Tensor, " member"]:
    values = torch.as_tensor(value, dtype=torch.float64)
    if values.ndim == 0:
        values = values.expand(size)
    if values.shape != (size,) or not bool((values >= 0).all() and values.isfinite().all()):
        raise ValueError(
            f"{name} is {values.tolist()}; give one number or {size}, one a member, none negative"
        )
    return values


def _decay_by_member(optimizer: torch.optim.Optimizer, decays: Float[Tensor, " member"]) -> None:
    """Shrink each member's parameters by ``1 - lr * decay`` before each update."""
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0

    def before(optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in _moving(group):
                p.mul_(_along_members(1 - group["lr"] * decays, p))

    optimizer.register_step_pre_hook(_without_gradients(before))


def _scale_by_member(optimizer: torch.optim.Optimizer, scale: Float[Tensor, " member"]) -> None:
    """Let each member make its own fraction of the update.

    The update of an optimizer that works element by element is proportional to the learning rate,
    so a fraction of it is the update at that fraction of the rate.
    """
    before: list[Tensor] = []

    def remember(optimizer: Any, *_: Any) -> None:
        before[:] = [p.clone() for group in optimizer.param_groups for p in _moving(group)]

    def scale_back(optimizer: Any, *_: Any) -> None:
        moved = [p for group in optimizer.param_groups for p in _moving(group)]
        for old, p in zip(before, moved, strict=True):
            p.copy_(torch.lerp(old, p, _along_members(scale, p)))

    optimizer.register_step_pre_hook(_without_gradients(remember))
    optimizer.register_step_post_hook(_without_gradients(scale_back))


def _without_gradients(hook: Callable[..., None]) -> Callable[..., None]:
    return torch.no_grad()(hook)


def _moving(group: dict[str, Any]) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def _along_members(values: Float[Tensor, " member"], parameter: Tensor) -> Tensor:
    shaped = values.reshape(-1, *[1] * (parameter.ndim - 1))
    return shaped.to(parameter.device, parameter.dtype)
