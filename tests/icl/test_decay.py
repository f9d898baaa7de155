"""Arms of decay: against torch's own optimizers, closed forms and numerical gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook.icl import decay
from mechbook.icl import model as models
from mechbook.icl.config import IclConfig, gaussian, paper

CONFIG = IclConfig(
    n_features=8, d_model=16, n_classes=20, n_labels=10, mlp=True, decay=0.3, lr=0.01
)


class Stacked(torch.nn.Module):
    """Members' weights along a leading axis, under the names that a member has for them."""

    def __init__(self, members):
        super().__init__()
        for name, _ in members[0].named_parameters():
            values = torch.stack([dict(m.named_parameters())[name].detach() for m in members])
            self.register_parameter(name.replace(".", "/"), torch.nn.Parameter(values))


def gradients(model, step):
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(p.shape, generator=draw) for name, p in model.named_parameters()}


def trained(configs, steps=5):
    """Members after some updates with the same made-up gradients."""
    start = models.build(CONFIG)
    stacked = Stacked([start] * len(configs))
    names = [(name, name.replace("/", ".")) for name, _ in stacked.named_parameters()]
    optimizer = decay.adam(stacked, names, configs)
    for step in range(steps):
        for own, name in names:
            parameter = dict(stacked.named_parameters())[own]
            gradient = gradients(start, step)[name]
            parameter.grad = gradient.expand(parameter.shape).clone()
        optimizer.step()
    return {name: dict(stacked.named_parameters())[own].detach() for own, name in names}


def by_torch(optimizer, kept, **options):
    """One model trained by an optimizer of torch, with its decay on the chosen parameters alone."""
    model = models.build(CONFIG)
    named = dict(model.named_parameters())
    chosen = [p for name, p in named.items() if kept(name)]
    others = [p for name, p in named.items() if not kept(name)]
    settings = [{"params": chosen, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    library = optimizer(settings, lr=0.01, **options)
    for step in range(5):
        for name, gradient in gradients(model, step).items():
            named[name].grad = gradient
        library.step()
    return {name: p.detach() for name, p in named.items()}


@pytest.mark.parametrize(
    ("arm", "optimizer"), [("AdamW", torch.optim.AdamW), ("L2 in the loss", torch.optim.Adam)]
)
@pytest.mark.parametrize("decayed", ["all", "mlp", "attention", "embedder"])
def test_decoupled_and_coupled_decay_are_torchs_own(arm, optimizer, decayed):
    config = replace(CONFIG, arm=arm, decayed=decayed)
    found = trained([config])
    parts = {"all": {"embedder", "attention", "mlp", "readout"}}.get(decayed, {decayed})
    expected = by_torch(optimizer, lambda name: models.part(name) in parts)
    for name, value in expected.items():
        torch.testing.assert_close(found[name][0], value, msg=name)


def test_members_with_arms_of_their_own_end_where_they_end_alone():
    configs = [
        replace(CONFIG, arm=arm, decay=strength, decayed=where)
        for arm, strength, where in [
            ("AdamW", 0.0, "all"), ("AdamW", 1.0, "mlp"), ("L1", 0.1, "all"),
            ("L2 in the loss", 0.1, "attention"), ("L1 in the loss", 0.1, "all"),
            ("unsquared norm", 0.1, "embedder"),
        ]
    ]  # fmt: skip
    together = trained(configs)
    for member, config in enumerate(configs):
        for name, value in trained([config]).items():
            torch.testing.assert_close(together[name][member], value[0], msg=name)


def test_decoupled_l1_moves_by_rate_times_coefficient_and_stops_at_zero():
    weight = torch.tensor([[0.5, -0.5, 0.001, -0.001, 0.0]])
    decay.pull("L1", weight, torch.tensor([0.2]), lr=0.01)
    torch.testing.assert_close(weight, torch.tensor([[0.498, -0.498, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("arm", "penalty"),
    [
        ("L2 in the loss", lambda w: w.pow(2).sum() / 2),
        ("L1 in the loss", lambda w: w.abs().sum()),
        ("unsquared norm", lambda w: w.pow(2).sum().sqrt()),
    ],
)
def test_coupled_arms_add_the_gradient_of_their_penalty(arm, penalty):
    weights = torch.nn.Parameter(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)))
    c = torch.tensor([0.1, 0.7])
    weights.grad = torch.zeros_like(weights)
    with torch.no_grad():
        decay.pull(arm, weights, c, lr=0.01)
    for member in range(2):
        alone = weights[member].detach().clone().requires_grad_()
        (c[member] * penalty(alone)).backward()
        torch.testing.assert_close(weights.grad[member], alone.grad)


def test_the_readout_of_reddy_is_its_mlp():
    config = gaussian(decay=1.0, decayed="mlp")
    reached = {
        name for name, _ in models.build(config).named_parameters() if decay.touches(config, name)
    }
    assert reached == {"readout.0.weight", "readout.2.weight", "readout.4.weight"}


def test_efolds_are_what_a_weight_shrinks_by_without_a_gradient():
    config = replace(CONFIG, steps=200, warmup=20, schedule="cosine", decay=0.5)
    weight = torch.ones(1, 1)
    for step in range(200):
        decay.pull("AdamW", weight, torch.tensor([0.5]), config.lr * config.rate(step))
    found = decay.efolds(config, [0, 200])
    assert found[0] == 0
    assert float(-weight.log()) == pytest.approx(found[1], rel=5e-3)
    assert np.isnan(decay.efolds(replace(config, arm="L1"), [200])).all()


def test_the_notes_grid_is_nearly_nothing_under_the_papers_schedule():
    assert decay.efolds(paper(decay=1e-2), [500_000])[0] == pytest.approx(0.25, abs=0.005)
    assert decay.efolds(paper(decay=3e-4), [500_000])[0] == pytest.approx(0.0075, abs=0.0002)
