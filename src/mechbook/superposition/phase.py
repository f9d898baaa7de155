"""Two features in one dimension: the smallest model in which a ReLU makes superposition pay.

Feature 1 counts 1, feature 2 counts ``importance``. Each is there with probability ``density``,
independently, and is then uniform between 0 and 1. The model keeps one number and gives back two::

    h = w_1 x_1 + w_2 x_2        x̂_i = ReLU(w_i h + b_i)

Expected losses are exact: a polynomial between the kinks of the ReLU in one of the two features,
and Gauss–Legendre quadrature in the other. With the fixed codes (1, -1) and (1, 0) they have closed forms,
which meet at the density 4r/(2 + 5r), r the importance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from mechbook import training
from mechbook.ensembles import train_ensemble
from mechbook.superposition.toy import Features, Toy, ToyConfig

Pair = Float[np.ndarray, "*models 2"]
KINDS = ("nothing", "only the first", "only the second", "both, opposite", "both, same side")
"""What a model in one dimension can do with two features; see `kind`."""


def _check(density: float, importance: float = 1.0) -> None:
    if not 0 <= density <= 1 or not importance >= 0 or not np.isfinite(importance):
        raise ValueError(
            f"density is {density}, importance {importance}; give a probability from 0 to 1, and "
            "an importance of at least 0"
        )


# --- closed forms -----------------------------------------------------------------------------


def opposite_loss(density: float, importance: float) -> float:
    """Expected loss of the codes (1, -1) without bias: density² (1 + importance) / 6.

    Nothing is lost unless both features are there; then each is off by the smaller of the two,
    and E min(x_1, x_2)² = 1/6.

    Raises:
        ValueError: a density outside 0 to 1, or a negative importance.
    """
    _check(density, importance)
    return density**2 * (1 + importance) / 6


def dropped_loss(density: float, importance: float, best_bias: bool = True) -> float:
    """Expected loss of the codes (1, 0): importance times what a constant misses of feature 2.

    Args:
        density: probability that a feature is there.
        importance: of the second feature.
        best_bias: give back its mean, density/2; otherwise zero.

    Raises:
        ValueError: a density outside 0 to 1, or a negative importance.
    """
    _check(density, importance)
    mean = density / 2 if best_bias else 0.0
    return importance * (density / 3 - mean**2)


def crossing(importance: float) -> float:
    """The density 4r/(2 + 5r) at which `opposite_loss` and `dropped_loss` are the same (r ≤ 1).

    Above an importance of 1 the first feature is the one to drop, and r is 1/importance.

    Raises:
        ValueError: an importance that is not above 0.
    """
    if not importance > 0 or not np.isfinite(importance):
        raise ValueError(f"importance is {importance}; give a number above 0")
    r = min(importance, 1 / importance)
    return 4 * r / (2 + 5 * r)


# --- exact losses -----------------------------------------------------------------------------

_NODES, _SHARES = np.polynomial.legendre.leggauss(24)
_NODES, _SHARES = (_NODES + 1) / 2, _SHARES / 2


def expected_loss(codes: Pair, bias: Pair, density: float, importance: float) -> float:
    """The exact expected loss of one model.

    Args:
        codes: w_1 and w_2.
        bias: b_1 and b_2.
        density: probability that a feature is there.
        importance: of the second feature.

    Raises:
        ValueError: a density outside 0 to 1, a negative importance, or not two codes and biases.
    """
    _check(density, importance)
    w, b = np.asarray(codes, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if w.shape != (2,) or b.shape != (2,):
        raise ValueError(f"codes {w.shape} and bias {b.shape}; give two numbers each")
    own = [_feature_loss(w[i], w[1 - i], b[i], density) for i in (0, 1)]
    return float(own[0] + importance * own[1])


def _feature_loss(own: float, other: float, bias: float, density: float) -> float:
    """E (ReLU(own² x + own other y + bias) - x)², x this feature and y the other one."""
    p, q = density, 1 - density
    x = np.concatenate([[0.0], _NODES])
    share = np.concatenate([[q], p * _SHARES])  # absent, or somewhere between 0 and 1
    alone = (np.maximum(own**2 * x + bias, 0) - x) ** 2
    both = _mean_over_other(own**2 * x + bias, own * other, x)
    return float((share * (q * alone + p * both)).sum())


def _mean_over_other(start: np.ndarray, slope: float, x: np.ndarray) -> np.ndarray:
    """The mean over y uniform in 0 to 1 of (ReLU(start + slope y) - x)², piece by piece."""
    if slope == 0:
        return (np.maximum(start, 0) - x) ** 2
    kink = np.clip(-start / slope, 0, 1)
    low, high = (kink, np.ones_like(kink)) if slope > 0 else (np.zeros_like(kink), kink)
    off = start - x
    powers = [(high**k - low**k) / k for k in (1, 2, 3)]
    above = off**2 * powers[0] + 2 * off * slope * powers[1] + slope**2 * powers[2]
    return above + x**2 * (1 - (high - low))


@dataclass(frozen=True)
class Fit:
    """A model whose expected loss is minimal.

    Attributes:
        codes: w_1 and w_2.
        bias: b_1 and b_2.
        loss: its expected loss.
    """

    codes: Pair
    bias: Pair
    loss: float


def fit(density: float, importance: float, start: Sequence[float] = (1, -1, 0, 0)) -> Fit:
    """Minimize the exact expected loss over norms and biases, from (w_1, w_2, b_1, b_2).

    Raises:
        ValueError: a density outside 0 to 1, or a negative importance.
    """
    _check(density, importance)

    def loss(t):
        return expected_loss(t[:2], t[2:], density, importance)

    found = minimize(loss, np.asarray(start, dtype=np.float64), method="BFGS", tol=1e-9)
    return Fit(found.x[:2], found.x[2:], float(found.fun))


STARTS = (
    (1.0, -0.9, 0.1, 0.1),
    (0.9, -1.0, 0.1, 0.1),
    (1.0, -0.4, 0.2, 0.4),
    (1.0, 0.4, -0.1, 0.2),
)


def best(density: float, importance: float) -> Fit:
    """The best of the minima reached from `STARTS`, and of dropping a feature."""
    fits = [fit(density, importance, start) for start in STARTS]
    dropped = [
        Fit(np.array([1.0, 0.0]), np.array([0, density / 2]), dropped_loss(density, importance)),
        Fit(np.array([0.0, 1.0]), np.array([density / 2, 0]), dropped_loss(density, 1.0)),
    ]
    return min([*dropped, *fits], key=lambda found: found.loss)


def second_line(importance: float, tolerance: float = 1e-3) -> float:
    """The highest density at which opposite codes beat dropping a feature, by bisection.

    Norms and biases are free. Superposition counts as better where it gains a thousandth of the
    loss; at equal importance that is nearly up to density 1.

    Raises:
        ValueError: an importance that is not above 0.
    """
    r = min(importance, 1 / importance) if importance > 0 else crossing(importance)
    low, high = crossing(r), 1.0  # free norms can only do better than fixed ones

    starts = (STARTS[0], STARTS[2])  # both opposite, the second code long or short

    def pays(p: float) -> bool:
        enough = (1 - 1e-3) * dropped_loss(p, r)
        return any(fit(p, r, start).loss < enough for start in starts)

    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return (low + high) / 2


# --- trained ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Models to train: every density with every importance.

    Attributes:
        densities: of both features.
        importances: of the second feature; the first counts 1.
        steps: updates (Adam, the rate falling to nothing along a cosine).
        batch: examples an update, the same for all cells of a seed's grid.
        learning_rate: at the start.
        relu: whether the output is clipped at zero.
    """

    densities: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    importances: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    steps: int = 800
    batch: int = 512
    learning_rate: float = 2e-2
    relu: bool = True

    def __post_init__(self) -> None:
        if not self.densities or not self.importances:
            raise ValueError("a grid needs at least one density and one importance")
        for density in self.densities:
            for importance in self.importances:
                _check(density, importance)


@dataclass(frozen=True)
class TrainedGrid:
    """A trained grid; each seed is started twice, see `train`.

    Attributes:
        grid: what was trained.
        codes: [seed, start, importance, density, 2].
        bias: [seed, start, importance, density, 2].
        loss: exact expected losses (of the model with its ReLU), [seed, start, importance, density].
    """

    grid: Grid
    codes: Float[np.ndarray, "seed start importance density 2"]
    bias: Float[np.ndarray, "seed start importance density 2"]
    loss: Float[np.ndarray, "seed start importance density"]

    @property
    def kind(self) -> np.ndarray:
        """What the better of the two starts became: positions in `KINDS`, [seed, importance, density]."""
        better = np.argmin(self.loss, axis=1)[:, None]
        return np.take_along_axis(kind(self.codes), better, 1)[:, 0]

    @property
    def opposite(self) -> np.ndarray:
        """Whether its codes are opposite, [seed, importance, density]."""
        return self.kind == KINDS.index("both, opposite")

    @property
    def stuck(self) -> float:
        """Share of the starts on one side whose mirror image did better by a twentieth or more."""
        same = self._same_side()
        worse = self.loss > 1.05 * self.loss[:, ::-1]
        return float(worse[same].mean()) if same.any() else 0.0

    def _same_side(self) -> np.ndarray:
        return kind(self.codes) == KINDS.index("both, same side")


def kind(codes: Pair, small: float = 0.1) -> np.ndarray:
    """Which of `KINDS` each pair of codes is; a code below ``small`` counts as not there."""
    w = np.asarray(codes)
    first, second = np.abs(w[..., 0]) >= small, np.abs(w[..., 1]) >= small
    both = np.where(w[..., 0] * w[..., 1] < 0, 3, 4)
    return np.where(first & second, both, np.where(first, 1, np.where(second, 2, 0)))


def train(grid: Grid, seeds: Sequence[int], progress: bool | None = None) -> TrainedGrid:
    """Train every cell for every seed, all as one program.

    Each seed is started twice: with codes on the same side and with codes on opposite sides, of
    the same sizes. Descent seldom takes a code through zero to the other side.

    Raises:
        ValueError: no seed.
    """
    if not len(seeds):
        raise ValueError("no seed was given; give at least one")
    config = ToyConfig(Features(2), n_hidden=1, relu=grid.relu)
    cells = [(r, p) for r in grid.importances for p in grid.densities]
    models = [_start(config, seed, side) for seed in seeds for side in (1, -1) for _ in cells]
    settings = torch.tensor(cells).repeat(2 * len(seeds), 1)

    def loss(model: Any, draws: Float[Tensor, "two batch 2"], setting: Tensor) -> Tensor:
        x = config.features.values(draws[0], draws[1], setting[1])
        error = (model(x) - x).pow(2).mean(0)
        return error[0] + setting[0] * error[1]

    def batches(step: int) -> Float[Tensor, "member two batch 2"]:
        shape = (2, grid.batch, 2)
        own = [torch.rand(*shape, generator=training.generator(s, step + 1)) for s in seeds]
        return torch.stack(own).repeat_interleave(2 * len(cells), 0)

    ensemble, _ = train_ensemble(
        models,
        loss,
        batches=batches,
        settings=settings,
        optimizer=torch.optim.Adam,
        lr=grid.learning_rate,
        scheduler=lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, grid.steps),
        steps=grid.steps,
        label="phase diagram",
        progress=progress,
    )
    return _read(grid, len(seeds), dict(ensemble.named_parameters()))


def _start(config: ToyConfig, seed: int, side: int) -> Toy:
    """A model whose codes have sizes from ½ to 1 and point the same way (side 1) or not (-1)."""
    model = Toy(config, seed)
    sizes = (1 + torch.rand(1, 2, generator=training.generator(seed))) / 2
    with torch.no_grad():
        model.W.copy_(sizes * torch.tensor([1.0, side]))
    return model


def _read(grid: Grid, seeds: int, parameters: dict[str, Tensor]) -> TrainedGrid:
    shape = (seeds, 2, len(grid.importances), len(grid.densities))

    def read(name):
        return parameters[f"member/{name}"].detach().double().numpy().reshape(*shape, 2)

    codes, bias = read("W"), read("b")
    losses = np.empty(shape)
    for place in np.ndindex(shape):
        cell = (grid.densities[place[3]], grid.importances[place[2]])
        losses[place] = expected_loss(codes[place], bias[place], *cell)
    return TrainedGrid(grid, codes, bias, losses)


# --- the artifact -----------------------------------------------------------------------------

FULL = Grid(
    densities=tuple(np.round(np.linspace(0.05, 1.0, 20), 4).tolist()),
    importances=tuple(np.round(np.geomspace(0.1, 1.0, 11), 4).tolist()),
    steps=1500,
)


def make_phase_diagram(
    seeds: int = 8, steps: int = FULL.steps
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``superposition-phase``: every cell of `FULL`, for every seed and both starts.

    Columns: ``seed``, ``start`` (0: codes on the same side, 1: on opposite sides), ``importance``,
    ``density``, ``w1``, ``w2``, ``b1``, ``b2``, ``loss``.

    Raises:
        ValueError: no seed.
    """
    grid = Grid(FULL.densities, FULL.importances, steps)
    trained = [train(grid, [seed]) for seed in range(seeds)] or [train(grid, [])]
    start, r, p = np.meshgrid([0, 1], grid.importances, grid.densities, indexing="ij")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    for seed, found in enumerate(trained):
        values = [np.full(r.shape, seed), start, r, p, *np.moveaxis(found.codes[0], -1, 0)]
        values += [*np.moveaxis(found.bias[0], -1, 0), found.loss[0]]
        for name, part in zip(_COLUMNS, values, strict=True):
            columns[name].append(part.ravel())
    about = (
        "Two features in one dimension with a ReLU: codes after training, by density and importance"
    )
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return joined, {"about": about, "seeds": list(range(seeds))}


_COLUMNS = ("seed", "start", "importance", "density", "w1", "w2", "b1", "b2", "loss")


def from_table(table: Mapping[str, np.ndarray]) -> TrainedGrid:
    """The artifact as a trained grid.

    Raises:
        ValueError: a column or a row is missing.
    """
    if missing := [name for name in _COLUMNS if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}; make it again")
    axes = [np.unique(table[name]) for name in _COLUMNS[:4]]
    shape = tuple(map(len, axes))
    if len(table["loss"]) != np.prod(shape):
        raise ValueError(f"{len(table['loss'])} rows do not fill a grid of {shape}; make it again")
    order = np.lexsort([table[name] for name in reversed(_COLUMNS[:4])])

    def one(name):
        return np.asarray(table[name])[order].reshape(shape)

    grid = Grid(tuple(axes[3].tolist()), tuple(axes[2].tolist()))
    both = [np.stack([one(f"{part}1"), one(f"{part}2")], -1) for part in ("w", "b")]
    return TrainedGrid(grid, both[0], both[1], one("loss"))


def predicted(grid: Grid, line: Sequence[float]) -> np.ndarray:
    """Where opposite codes should win if they do below a density: [importance, density].

    Args:
        grid: the cells.
        line: that density for each of the grid's importances.

    Raises:
        ValueError: another number of densities than importances.
    """
    if len(line) != len(grid.importances):
        raise ValueError(f"{len(line)} densities for {len(grid.importances)} importances")
    return np.asarray(grid.densities)[None] < np.asarray(line)[:, None]
