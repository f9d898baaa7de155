"""Training of sparse autoencoders: warm-ups, dead latents and how they come back, many at once.

A member is one price of sparsity with one seed; all members train as one stacked program through
``mechbook.training.train``. A latent that has not been active for ``window`` updates is dead. ::

    data = shuffled(activations, batch=1024, seeds=[0, 1, 2])
    trained = train(SAEConfig(256, 2048), TrainingConfig(), data, prices=[1.0], seeds=[0, 1, 2])
    trained.sae(price=0, seed=1).encode(activations)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechbook import training
from mechbook.ensembles import Ensemble
from mechbook.sae.resampling import RESAMPLING, resample
from mechbook.sae.variants import SAE, BatchTopKSAE, SAEConfig, TopKSAE, build
from mechbook.training import History

Data = Callable[[int], Float[Tensor, "member batch d_in"]]
"""The activations of an update, one batch a member, from the number of the update."""


@dataclass(frozen=True)
class TrainingConfig:
    """How autoencoders are trained (Adam).

    Attributes:
        steps: updates.
        learning_rate: after its warm-up.
        warm_up: updates in which the learning rate rises from nothing.
        price_warm_up: updates in which the price of sparsity rises from nothing.
        decay: share of the updates, the last ones, in which the learning rate falls to nothing.
        window: updates without activity after which a latent is dead.
        resample: what is done about dead latents: ``none``, ``simple`` or ``bricken``.
        resample_every: updates from one resampling to the next.
        resample_until: no resampling from this update on; 0: until the learning rate falls.
        encoder_scale: length of a new encoder direction, in mean lengths of the live ones.
        candidates: activations from which ``bricken`` draws new directions, each time.
        measure_every: updates from one measurement to the next.
    """

    steps: int = 3000
    learning_rate: float = 1e-3
    warm_up: int = 0
    price_warm_up: int = 0
    decay: float = 0.2
    window: int = 300
    resample: str = "none"
    resample_every: int = 600
    resample_until: int = 0
    encoder_scale: float = 0.2
    candidates: int = 8192
    measure_every: int = 100

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLING:
            raise ValueError(f"resample is {self.resample!r}; give one of {', '.join(RESAMPLING)}")
        counts = (self.steps, self.window, self.resample_every, self.candidates, self.measure_every)
        if min(counts) < 1 or not 0 <= self.decay <= 1:
            raise ValueError(f"{self}: counts are 1 or more, and decay is a share from 0 to 1")

    @property
    def last_resampling(self) -> int:
        """Resampling happens before this update."""
        return self.resample_until or round(self.steps * (1 - self.decay))

    def rate(self, step: int) -> float:
        """The learning rate of an update, as a share of the greatest."""
        rise = min(1.0, (step + 1) / self.warm_up) if self.warm_up else 1.0
        falling = self.steps * self.decay
        return rise * (min(1.0, (self.steps - step) / falling) if falling else 1.0)

    def price(self, step: int) -> float:
        """The price of sparsity at an update, as a share of the full one."""
        return min(1.0, step / self.price_warm_up) if self.price_warm_up else 1.0


@dataclass(frozen=True)
class Trained:
    """Trained autoencoders, in the order [price, seed].

    Attributes:
        config: what they have in common.
        prices: of sparsity.
        seeds: of start and data.
        ensemble: all of them as one.
        history: their losses ``[step, member]``; ``dead``, ``l0`` and ``explained`` on the way.
        silent: for how many updates each latent has not been active, [member, latent].
    """

    config: SAEConfig
    prices: tuple[float, ...]
    seeds: tuple[int, ...]
    ensemble: Ensemble
    history: History
    silent: Int[Tensor, "member latent"]

    def sae(self, price: int = 0, seed: int = 0) -> SAE:
        """One of them, by the place of its price and the place of its seed."""
        member = self.ensemble.member(price * len(self.seeds) + seed)
        assert isinstance(member, SAE)
        return member

    def tensor(self, name: str) -> Float[Tensor, "price seed *shape"]:
        """A parameter of all of them, such as ``W_dec``."""
        found = parameter(self.ensemble, name).detach()
        return found.unflatten(0, (len(self.prices), len(self.seeds)))

    def map(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(sae, *arguments)`` for all, every one with the same arguments."""
        shared = range(len(arguments))
        with torch.no_grad():
            found = self.ensemble.map(function, *arguments, shared=shared)
        return torch.utils._pytree.tree_map(
            lambda t: t.unflatten(0, (len(self.prices), len(self.seeds))), found
        )


def parameter(ensemble: Ensemble, name: str) -> Tensor:
    """A stacked parameter of an ensemble by its name in a member.

    Raises:
        ValueError: the members have no such parameter.
    """
    named = dict(ensemble.named_parameters())
    if f"member/{name}" not in named:
        names = ", ".join(n.removeprefix("member/") for n in named)
        raise ValueError(f"these autoencoders have no parameter {name}; they have {names}")
    return named[f"member/{name}"]


def shuffled(
    activations: Float[Tensor, "row d_in"], batch: int, seeds: Sequence[int], copies: int = 1
) -> Data:
    """Batches from stored activations: for each seed all rows in its own order, pass after pass.

    Args:
        activations: one row a token.
        batch: rows an update, at most all.
        seeds: of the orders.
        copies: prices; each gets the same batches.

    Raises:
        ValueError: no activations, a batch that they do not fill, or values that are not finite.
    """
    check_activations(activations)
    rows = len(activations)
    if not 1 <= batch <= rows:
        raise ValueError(f"batch is {batch} for {rows} activations; give 1 to {rows}")
    orders: dict[tuple[int, int], Tensor] = {}

    def order(seed: int, turn: int) -> Int[Tensor, " row"]:
        if (seed, turn) not in orders:
            orders.pop((seed, turn - 1), None)
            draw = training.generator(seed, turn)
            orders[seed, turn] = torch.randperm(rows, generator=draw)
        return orders[seed, turn]

    def data(step: int) -> Float[Tensor, "member batch d_in"]:
        turn, place = divmod(step, rows // batch)
        part = slice(place * batch, (place + 1) * batch)
        taken = [activations[order(seed, turn)[part]].float() for seed in seeds]
        return torch.stack(taken).repeat(copies, 1, 1)

    return data


def check_activations(activations: Float[Tensor, "row d_in"]) -> None:
    """Refuse what no autoencoder can be trained on.

    Raises:
        ValueError: not a table of numbers with at least one row, or values that are not finite.
    """
    if activations.ndim != 2 or not activations.numel():
        raise ValueError(
            f"activations have shape {list(activations.shape)}; give rows of d_in numbers, at least one"
        )
    bad = ~torch.isfinite(activations).all(-1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(bad)} activations are not finite, the first is row "
            f"{int(bad.nonzero()[0])}; leave them out, or look for what overflowed"
        )


# --- the run ----------------------------------------------------------------------------------


def train(
    config: SAEConfig,
    how: TrainingConfig,
    data: Data,
    prices: Sequence[float] = (0.0,),
    seeds: Sequence[int] = (0,),
    *,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 500,
    progress: bool | None = None,
) -> Trained:
    """Train one autoencoder for every price of sparsity and every seed, all in one program.

    Args:
        config: what they have in common.
        how: updates, rates, and what is done about dead latents.
        data: from the number of an update to the activations, members in the order [price, seed].
        prices: of sparsity (λ); 0 where the variant pays for none.
        seeds: of the starts.
        checkpoint: as in ``training.train``.
        checkpoint_every: as in ``training.train``.
        progress: as in ``training.train``.

    Raises:
        ValueError: no or negative prices, no seeds, or data that do not fit or are not finite.
        TrainingError: as in ``training.train``.
    """
    if not len(prices) or min(prices) < 0 or not len(seeds):
        raise ValueError(f"prices {list(prices)}, seeds {list(seeds)}; give some, none negative")
    members = [(float(price), seed) for price in prices for seed in seeds]
    first = data(0)
    _check_batch(first, len(members), config)
    run = _Run(config, how, data, members)
    run.start_at_mean(first)
    history = training.train(
        run,
        _Run.losses,
        optimizer=run.optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(run.optimizer, how.rate),
        steps=how.steps,
        metrics=_Run.measure,
        metrics_every=how.measure_every,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        settings=[config, how, members],
        label="autoencoders",
        progress=progress,
    )
    if isinstance(run.ensemble.member(0), BatchTopKSAE):
        run.calibrate()
    return Trained(config, tuple(prices), tuple(seeds), run.ensemble, history, run.silent)


def _check_batch(batch: Tensor, members: int, config: SAEConfig) -> None:
    if batch.ndim != 3 or len(batch) != members or batch.shape[-1] != config.d_in:
        raise ValueError(
            f"data gave {list(batch.shape)}; it takes [{members}, batch, {config.d_in}]: one batch "
            "for every price and seed, of d_in numbers"
        )
    check_activations(batch.flatten(0, 1))


class _Run(nn.Module):
    """The members, how long their latents have been silent, and the optimizer."""

    silent: Tensor

    def __init__(
        self, config: SAEConfig, how: TrainingConfig, data: Data, members: list[tuple[float, int]]
    ):
        super().__init__()
        self.config, self.how, self.data = config, how, data
        self.ensemble = Ensemble([build(config, seed) for _, seed in members])
        self.seeds = [seed for _, seed in members]
        self.prices = torch.tensor([price for price, _ in members])
        self.register_buffer("silent", torch.zeros(len(members), config.d_sae, dtype=torch.long))
        trained = [p for p in self.ensemble.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=how.learning_rate, fused=True)
        if config.decoder == "unit":
            _keep_unit(self.optimizer, parameter(self.ensemble, "W_dec"))
        self.helped = isinstance(self.ensemble.member(0), TopKSAE) and config.auxiliary > 0

    @torch.no_grad()
    def start_at_mean(self, batch: Float[Tensor, "member batch d_in"]) -> None:
        """Let ``b_dec`` start where the activations are centered."""
        parameter(self.ensemble, "b_dec").copy_(batch.mean(1))

    def losses(self, step: int) -> Float[Tensor, " member"]:
        """The loss of every member at an update; also resamples and counts silence."""
        prices = self.prices * self.how.price(step)
        if self._is_resampling(step):
            self.resample(step, prices)
        dead = self.silent >= self.how.window if self.helped else None
        if dead is not None and not dead.any():
            dead = None
        loss, fired = self.ensemble.map(_loss, self.data(step), prices, dead)
        with torch.no_grad():
            self.silent += 1
            self.silent *= ~fired
        return loss

    def _is_resampling(self, step: int) -> bool:
        due = step > 0 and step % self.how.resample_every == 0
        return self.how.resample != "none" and due and step < self.how.last_resampling

    @torch.no_grad()
    def resample(self, step: int, prices: Float[Tensor, " member"]) -> None:
        """Give dead latents new directions, and a new window of silence."""
        dead = self.silent >= self.how.window
        h = None
        if self.how.resample == "bricken" and dead.any():
            batches = [self.data(step)]
            while sum(b.shape[1] for b in batches) < self.how.candidates:
                batches.append(self.data(step + len(batches)))
            h = torch.cat(batches, 1)[:, : self.how.candidates]
        resample(
            self.ensemble,
            self.optimizer,
            dead,
            h,
            prices,
            self.how,
            self.seeds,
            step,
            self.config.threshold,
        )
        self.silent[dead] = 0

    def measure(self, step: int) -> dict[str, Tensor]:
        """Share of dead latents, L0 and share of variance explained on the batch of an update."""
        l0, explained = self.ensemble.map(_quality, self.data(step))
        dead = (self.silent >= self.how.window).float().mean(-1)
        return {"dead": dead, "l0": l0, "explained": explained}

    @torch.no_grad()
    def calibrate(self, batches: int = 16) -> None:
        """Set the threshold of ``batchtopk``: the mean of the smallest activation of a batch."""
        least = [self.ensemble.map(_least, self.data(self.how.steps + i)) for i in range(batches)]
        parameter(self.ensemble, "threshold").copy_(torch.stack(least).mean(0))


def _loss(
    sae: Any, h: Float[Tensor, "batch d_in"], price: Tensor, dead: Bool[Tensor, " latent"] | None
) -> tuple[Float[Tensor, ""], Bool[Tensor, " latent"]]:
    terms = sae.losses(h, dead)
    total = terms.reconstruction + price * terms.sparsity + terms.auxiliary
    return total, terms.z.detach().amax(0) > 0


def _quality(sae: Any, h: Float[Tensor, "batch d_in"]) -> tuple[Tensor, Tensor]:
    z = sae.activate_in_training(sae.pre_activations(h))
    error = (h - sae.decode(z)).pow(2).sum()
    return (z != 0).float().sum(-1).mean(), 1 - error / (h - h.mean(0)).pow(2).sum()


def _least(sae: Any, h: Float[Tensor, "batch d_in"]) -> Float[Tensor, ""]:
    z = sae.activate_in_training(sae.pre_activations(h))
    return torch.where(z > 0, z, torch.inf).amin()


def _keep_unit(
    optimizer: torch.optim.Optimizer, W_dec: Float[Tensor, "member latent d_in"]
) -> None:
    """Keep directions at length 1; what of the gradient would change the length is taken out.

    Bricken et al. (2023): without the second, Adam spends its step on what the first undoes.
    """

    @torch.no_grad()
    def before(*_: Any) -> None:
        if W_dec.grad is not None:
            along = (W_dec.grad * W_dec).sum(-1, keepdim=True)
            W_dec.grad.sub_(along * W_dec)

    @torch.no_grad()
    def after(*_: Any) -> None:
        W_dec.div_(W_dec.norm(dim=-1, keepdim=True).clamp(min=1e-8))

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
