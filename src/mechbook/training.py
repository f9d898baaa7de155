"""One training loop: seeded by step, refusing NaN, resumable to the last bit.

Nothing here keeps a random state of its own. A batch is a function of ``(seed, step)``, see
``generator``, so a run that was killed goes on from its checkpoint without replaying anything::

    def loss(model, step):
        tokens = torch.randint(64, (32, 16), generator=training.generator(seed, step))
        return cross_entropy(model, tokens)

    history = training.train(model, loss, optimizer=optimizer, steps=1000)
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mechbook.artifacts import write_atomically

Loss = Callable[[Any, int], Tensor]
Metrics = Callable[[Any, int], Mapping[str, Any]]

_WORD = 2**32


class TrainingError(ValueError):
    """A run that cannot go on, or a checkpoint that does not belong to it."""


@dataclass(frozen=True)
class History:
    """What a run recorded. ``members`` is there only where the loss gave one value a member.

    Attributes:
        steps: the numbers of the updates, 0 to ``steps - 1``.
        loss: the loss that each update started from, before it moved the parameters.
        metric_steps: how many updates had been made when the metrics were taken.
        metrics: the values at ``metric_steps``, by name.
    """

    steps: Int[np.ndarray, " step"]
    loss: Float[np.ndarray, "step *members"]
    metric_steps: Int[np.ndarray, " measured"]
    metrics: dict[str, Float[np.ndarray, "measured *values"]]

    def rows(self) -> Iterator[tuple[int, str, str, float]]:
        """The metrics, one number a row: step, name, place among the values ("1.0"), value."""
        for name, values in self.metrics.items():
            for step, measured in zip(self.metric_steps.tolist(), values, strict=True):
                for index, number in np.ndenumerate(measured):
                    yield step, name, ".".join(map(str, index)), float(number)


# --- randomness -------------------------------------------------------------------------------


def generator(seed: int, step: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A random stream of its own for each step of a seed.

    The CPU generator of torch reads only 32 bits of its seed, so the pair is mixed into 32 bits by
    a permutation of the steps that differs from seed to seed: no two steps of a seed ever share a
    stream, and two seeds share one no more often than chance.

    Args:
        seed: 0 to 2³² − 1.
        step: 0 to 2³² − 1.
        device: where the numbers are to be drawn.

    Raises:
        ValueError: seed or step outside its range.
    """
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < _WORD:
            raise ValueError(f"{name} is {value}; give a whole number from 0 to 2**32 - 1")
    key = _mixed(int(seed))
    return torch.Generator(device).manual_seed(_mixed((_mixed(int(step) ^ key) + key) % _WORD))


def _mixed(word: int) -> int:
    """A fixed permutation of the 32-bit words that scatters neighbors (splitmix-style)."""
    word = (word + 0x9E3779B9) % _WORD
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) % _WORD
    word = ((word ^ (word >> 15)) * 0x735A2D97) % _WORD
    return word ^ (word >> 15)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's own random numbers (initial weights, say) from ``seed``, then put all back.

    The random state outside the block is left as it was::

        with seeded(0):
            model = nn.Linear(5, 2)
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


# --- the loop ---------------------------------------------------------------------------------


def train(
    model: nn.Module,
    loss: Loss,
    *,
    optimizer: torch.optim.Optimizer,
    steps: int,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip: float | None = None,
    metrics: Metrics | None = None,
    metrics_every: int = 25,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 500,
    settings: object = None,
    label: str = "training",
    progress: bool | None = None,
    unit: str = "steps",
    units_a_step: int = 1,
) -> History:
    """Train ``model`` in place, and return what was recorded on the way.

    Args:
        model: any module; its train or eval mode is left as it is.
        loss: ``loss(model, step)`` → scalar. It may also return one value a member, shape
            ``[members]``, for a model whose every trainable parameter has the leading axis
            ``members`` (see ``mechbook.ensembles``): members then stay apart, clipping included.
        optimizer: made from the model's parameters.
        steps: updates in all, also for a run that is resumed.
        scheduler: its ``step()`` is called after each update.
        clip: greatest norm of the gradient (of each member's gradient); longer ones are scaled.
        metrics: ``metrics(model, step)`` → ``{name: number or array}``, without gradients, before
            update 0, at every ``metrics_every``, and after the last update.
        metrics_every: updates from one taking of the metrics to the next.
        checkpoint: safetensors file to resume from. A killed run that is started again ends, on
            the CPU, with the same bits as one never killed; a finished one is read back.
        checkpoint_every: updates from one writing of the checkpoint to the next.
        settings: whatever else makes this run this run (a dataclass, a dict of plain values): a
            checkpoint with other settings is refused.
        label: the name of the run on the progress bar and in errors.
        progress: show a bar; default: only where the page is not built statically.
        unit: what the bar counts, such as tokens; it shows how many a second, and the time left.
        units_a_step: how many of them an update takes.

    Raises:
        TrainingError: loss or gradient is not finite (before the update that it would spoil, the
            last checkpoint stays), or the checkpoint is broken or belongs to another run.
        ValueError: an argument is outside its range.
    """
    _require_positive(steps=steps, metrics_every=metrics_every, checkpoint_every=checkpoint_every)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; give a norm above 0, or None not to clip")
    run = _Run(model, optimizer, scheduler, label)
    store = None
    if checkpoint is not None:
        store = _Checkpoint(Path(checkpoint), run.identity(steps, clip, metrics_every, settings))
    start = store.restore(run) if store else 0
    with _bar(label, start * units_a_step, steps * units_a_step, unit, progress) as bar:
        for step in range(start, steps):
            if metrics is not None and step % metrics_every == 0:
                run.measure(metrics, step)
            run.update(loss, step, clip)
            if store and (step + 1) % checkpoint_every == 0:
                store.save(run, step + 1)
            bar.update(units_a_step)
            if step % 25 == 0:
                bar.set_postfix_str(f"loss {np.mean(run.log.loss[-1]):.4g}", refresh=False)
    if metrics is not None and steps not in run.log.metric_steps[-1:]:
        run.measure(metrics, steps)
    if store and start < steps:
        store.save(run, steps)
    return run.log.history()


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if int(value) != value or value < 1:
            raise ValueError(f"{name} is {value}; give a whole number of at least 1")


def _bar(label: str, start: int, total: int, unit: str, progress: bool | None) -> Any:
    from tqdm.auto import tqdm

    if progress is None:
        from mechbook.explore import is_static

        progress = not is_static()
    return tqdm(
        total=total,
        initial=start,
        desc=label,
        unit=f" {unit}",
        unit_scale=total > 1_000_000,
        disable=not progress,
    )


@dataclass
class _Log:
    loss: list[np.ndarray] = field(default_factory=list)
    metric_steps: list[int] = field(default_factory=list)
    metrics: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def history(self) -> History:
        return History(
            steps=np.arange(len(self.loss)),
            loss=np.array(self.loss, dtype=np.float64),
            metric_steps=np.array(self.metric_steps, dtype=np.int64),
            metrics={name: np.stack(values) for name, values in self.metrics.items()},
        )


@dataclass
class _Run:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    label: str
    log: _Log = field(default_factory=_Log)

    def __post_init__(self) -> None:
        groups = self.optimizer.param_groups
        self.parameters: list[Tensor] = [p for group in groups for p in group["params"]]

    def update(self, loss: Loss, step: int, clip: float | None) -> None:
        """One step of the optimizer, unless loss or gradient is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        value = loss(self.model, step)
        self._refuse_wrong_loss(value)
        self._refuse_not_finite("loss", value.detach(), step)
        value.sum().backward()
        norm = gradient_norm(self.parameters, members=value.ndim == 1)
        self._refuse_not_finite("norm of the gradient", norm, step)
        if clip is not None:
            _scale_gradients(self.parameters, (clip / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.log.loss.append(value.detach().cpu().double().numpy())

    def measure(self, metrics: Metrics, step: int) -> None:
        with torch.no_grad():
            values = {name: _array(value) for name, value in metrics(self.model, step).items()}
        if self.log.metric_steps and set(values) != set(self.log.metrics):
            raise ValueError(
                f"metrics gave {sorted(values)} after step {step} and {sorted(self.log.metrics)} "
                "before; give the same names each time, with nan where there is no value"
            )
        self.log.metric_steps.append(step)
        for name, value in values.items():
            self.log.metrics.setdefault(name, []).append(value)

    def _refuse_wrong_loss(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.ndim > 1:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; give a scalar tensor (or one value a member)")
        if not value.requires_grad:
            raise ValueError("the loss does not depend on a trainable parameter; nothing to train")
        sizes = {p.shape[:1] for p in self.parameters if p.requires_grad}
        if value.ndim == 1 and sizes != {value.shape}:
            raise ValueError(
                f"the loss has {len(value)} values, so each trainable parameter needs a leading "
                f"axis of {len(value)}; got {sorted(map(list, sizes))}. Take the mean otherwise"
            )

    def _refuse_not_finite(self, what: str, value: Tensor, step: int) -> None:
        finite = torch.isfinite(value)
        if bool(finite.all()):
            return
        members = (~finite).nonzero().flatten().tolist() if value.ndim else []
        who = f" of member {', '.join(map(str, members))}" if members else ""
        bad = value[members[0]] if members else value
        raise TrainingError(
            f"{self.label} stopped at step {step}: the {what}{who} is {float(bad)}. "
            f"Last finite losses: {self._last_losses(members)}. The parameters are those before "
            "this step; try a smaller learning rate or clip=1.0"
        )

    def _last_losses(self, members: list[int]) -> str:
        first = len(self.log.loss) - min(3, len(self.log.loss))
        last = [x[members[0]] if members else np.mean(x) for x in self.log.loss[first:]]
        return ", ".join(f"{x:.4g} (step {first + i})" for i, x in enumerate(last)) or "none"

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, each once, by name."""
        named = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {name: tensor.detach() for name, tensor in named}

    def identity(self, steps: int, clip: float | None, every: int, settings: object) -> dict:
        """What must agree between a checkpoint and the run that resumes from it."""
        tensors = self.tensors()
        schedule = self.scheduler.state_dict() if self.scheduler is not None else None
        groups = [
            {k: v for k, v in group.items() if k != "params"}
            for group in self.optimizer.param_groups
        ]
        return _plain(
            {
                "model": {name: [str(t.dtype), list(t.shape)] for name, t in tensors.items()},
                "scheduler": [type(self.scheduler).__name__, schedule],
                "optimizer": [type(self.optimizer).__name__, groups],
                "steps": steps,
                "clip": clip,
                "metrics_every": every,
                "settings": settings,
                "initial values": _digest(tensors),
            }
        )


def _array(value: Any) -> np.ndarray:
    value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    return np.asarray(value, dtype=np.float64)


def gradient_norm(parameters: list[Tensor], members: bool = False) -> Float[Tensor, "*members"]:
    """Euclidean norm of all gradients together, or of each member's along the leading axis."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not members:
        return torch.nn.utils.get_total_norm(gradients)
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in map(_at_least_2d, gradients)]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def _at_least_2d(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim > 1 else tensor.unsqueeze(-1)


def _scale_gradients(parameters: list[Tensor], scale: Float[Tensor, "*members"]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            axes = [1] * (parameter.grad.ndim - scale.ndim)
            parameter.grad.mul_(scale.reshape(*scale.shape, *axes))


# --- checkpoints ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Checkpoint:
    """One safetensors file: every tensor of the run, and the rest as JSON in its header."""

    path: Path
    identity: dict

    def save(self, run: _Run, done: int) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in run.tensors().items()}
        bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
        if bad:
            raise TrainingError(
                f"{run.label} stopped after step {done - 1}: {bad[0]} is no longer finite. "
                f"An earlier checkpoint stays in {self.path.name}; try a smaller learning rate"
            )
        state, numbers = _optimizer_state(run.optimizer)
        tensors |= state | _log_tensors(run.log) | _random_state(run)
        rest = {"identity": self.identity, "done": done, "optimizer": numbers}
        rest["metrics"] = list(run.log.metrics)
        if run.scheduler is not None:
            rest["scheduler"] = _plain(run.scheduler.state_dict())
        copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        write_atomically(self.path, save(copies, {"mechbook": json.dumps(rest)}))

    def restore(self, run: _Run) -> int:
        """Put the saved state into the run; the number of updates done, 0 without a file."""
        if not self.path.exists():
            return 0
        rest, tensors = self._read()
        self._refuse_other_run(rest["identity"])
        with torch.no_grad():
            for name, tensor in run.tensors().items():
                tensor.copy_(tensors[f"model.{name}"])
        _restore_optimizer(run.optimizer, rest["optimizer"], tensors)
        if run.scheduler is not None:
            run.scheduler.load_state_dict(rest["scheduler"])
        run.log = _restored_log(rest["metrics"], tensors)
        _restore_random_state(tensors)
        return rest["done"]

    def _read(self) -> tuple[dict, dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as file:
                rest = json.loads(file.metadata()["mechbook"])
                return rest, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"checkpoint {self.path.name} is not a whole checkpoint of training.train; "
                "delete it to start afresh, or restore it from a copy"
            ) from error

    def _refuse_other_run(self, saved: dict) -> None:
        for name, here in self.identity.items():
            there = saved.get(name)
            if here == there:
                continue
            how = f"{name} {_difference(there, here)}"
            if name == "initial values":
                how = "the model starts from other values (another seed, or trained already)"
            raise TrainingError(
                f"checkpoint {self.path.name} belongs to another run: {how}. Delete it to start "
                "afresh, or give this run another checkpoint"
            )


def _difference(there: Any, here: Any) -> str:
    """The first place where two values differ, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        key = next(k for k in {**there, **here} if there.get(k) != here.get(k))
        return f"{key} {_difference(there.get(key), here.get(key))}"
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return next(_difference(a, b) for a, b in zip(there, here, strict=True) if a != b)
    return f"is {json.dumps(there)} there and {json.dumps(here)} here"


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, dataclasses as dicts, tensors as lists."""

    def convert(item: Any) -> Any:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
        if isinstance(item, (Tensor, np.ndarray, np.generic)):
            return item.tolist()
        raise ValueError(
            f"{item!r} cannot be written into a checkpoint; use numbers, text, lists, dicts, "
            "dataclasses or tensors (in settings, optimizer and scheduler)"
        )

    return json.loads(json.dumps(value, default=convert))


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict] = {}
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        numbers[str(index)] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers[str(index)][name] = value
    return tensors, _plain({"state": numbers, "groups": state["param_groups"]})


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, saved: dict, tensors: dict[str, Tensor]
) -> None:
    state: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in saved["state"].items()}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state[int(index)][name] = tensor
    groups = [
        {k: tuple(v) if k != "params" and isinstance(v, list) else v for k, v in group.items()}
        for group in saved["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _log_tensors(log: _Log) -> dict[str, Tensor]:
    history = log.history()
    arrays = {"log.loss": history.loss, "log.metric_steps": history.metric_steps}
    arrays |= {f"metric.{name}": values for name, values in history.metrics.items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _restored_log(names: list[str], tensors: dict[str, Tensor]) -> _Log:
    metrics = {name: list(tensors[f"metric.{name}"].numpy()) for name in names}
    steps = cast(list[int], tensors["log.metric_steps"].tolist())
    return _Log([np.asarray(x) for x in tensors["log.loss"].numpy()], steps, metrics)


def _random_state(run: _Run) -> dict[str, Tensor]:
    state = {"random.cpu": torch.get_rng_state()}
    if any(p.is_cuda for p in run.parameters):
        states = torch.cuda.get_rng_state_all()
        state |= {f"random.cuda.{i}": s for i, s in enumerate(states)}
    return state


def _restore_random_state(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random.cpu"])
    for key, state in tensors.items():
        if key.startswith("random.cuda."):
            index = int(key.rsplit(".", 1)[1])
            if index < torch.cuda.device_count():
                torch.cuda.set_rng_state(state, index)
