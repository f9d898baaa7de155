"""What pulls weights to zero: AdamW's decay and its relatives, each member of an ensemble with its own.

With ``c`` the coefficient and ``r`` the learning rate of the update:

``AdamW``
    w ← (1 − r c) w before the update (decoupled; Loshchilov and Hutter 2019).
``L2 in the loss``
    c w is added to the gradient, and Adam divides it with the rest of the gradient (coupled).
``L1``
    w moves r c towards zero before the update, and stops there (decoupled).
``L1 in the loss``
    c sign(w) is added to the gradient.
``unsquared norm``
    c w / ‖w‖ of each weight matrix is added: the gradient of c times the sum of their norms.

Gains, biases and tables are left alone, see ``model.part``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechbook.icl.config import IclConfig
from mechbook.icl.model import part


def touches(config: IclConfig, name: str) -> bool:
    """Whether the run's decay reaches the parameter of this name."""
    where = part(name)
    if config.decayed == "mlp" and config.readout == "mlp":
        return where == "mlp" or where == "readout"
    return where != "none" and config.decayed in ("all", where)


def coefficients(configs: Sequence[IclConfig], name: str) -> dict[str, Float[Tensor, " member"]]:
    """The coefficients of the members for a parameter, by arm; arms without any are left out."""
    found = {}
    for arm in sorted({config.arm for config in configs}):
        values = [c.decay if c.arm == arm and touches(c, name) else 0.0 for c in configs]
        if any(values):
            found[arm] = torch.tensor(values)
    return found


def adam(
    stacked: nn.Module, names: Sequence[tuple[str, str]], configs: Sequence[IclConfig]
) -> torch.optim.Adam:
    """Adam over stacked parameters, with each member's decay.

    Args:
        stacked: module whose parameters have a leading axis of members.
        names: of each parameter in it, and the name that one member has for it.
        configs: the members; they share learning rate and schedule.
    """
    parameters = dict(stacked.named_parameters())
    pulled = [(parameters[own], coefficients(configs, name)) for own, name in names]
    optimizer = torch.optim.Adam(stacked.parameters(), lr=configs[0].lr, fused=True)

    def before(optimizer: Any, *_: Any) -> None:
        lr = optimizer.param_groups[0]["lr"]
        for parameter, arms in pulled:
            for arm, values in arms.items():
                pull(arm, parameter, values.to(parameter), float(lr))

    optimizer.register_step_pre_hook(torch.no_grad()(before))
    return optimizer


def pull(arm: str, weight: Tensor, c: Float[Tensor, " member"], lr: float) -> None:
    """One step of an arm, in place: on the weights, or on their gradients."""
    c = c.reshape(-1, *[1] * (weight.ndim - 1))
    if arm == "AdamW":
        weight.mul_(1 - lr * c)
    elif arm == "L1":
        weight.copy_(weight.sign() * (weight.abs() - lr * c).clamp(min=0))
    elif weight.grad is not None:
        weight.grad.add_(c * _slope(arm, weight))


def _slope(arm: str, weight: Tensor) -> Tensor:
    if arm == "L2 in the loss":
        return weight
    if arm == "L1 in the loss":
        return weight.sign()
    norm = torch.linalg.vector_norm(weight.flatten(1), dim=1).clamp(min=1e-12)
    return weight / norm.reshape(-1, *[1] * (weight.ndim - 1))


def efolds(config: IclConfig, steps: Sequence[int]) -> Float[np.ndarray, " step"]:
    """Σ lr · decay over the updates before each step: by e to minus that the decay alone shrinks a weight.

    Not a number for arms other than AdamW's, where it would mean nothing.
    """
    if config.arm != "AdamW":
        return np.full(len(steps), np.nan)
    rates = config.lr * np.array([config.rate(step) for step in range(max(steps))])
    return config.decay * np.concatenate([[0.0], rates.cumsum()])[np.asarray(steps, dtype=int)]
