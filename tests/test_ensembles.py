from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mechbook import training
from mechbook.ensembles import Ensemble, train_ensemble
from mechbook.training import TrainingError


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, and wait long for them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Toy(nn.Module):
    """x̂ = ReLU(WᵀWx + b), the toy model of superposition."""

    def __init__(self, features=5, hidden=2):
        super().__init__()
        self.W = nn.Parameter(torch.randn(hidden, features) / features**0.5)
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x):
        return F.relu(F.linear(F.linear(x, self.W), self.W.T, self.b))


class SmallTransformer(nn.Module):
    """One causal layer of attention with an explicit softmax, and an MLP."""

    def __init__(self, vocabulary=11, d_model=8, heads=2, positions=6):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.mlp = nn.Sequential(nn.Linear(d_model, 16), nn.GELU(), nn.Linear(16, d_model))
        self.unembed = nn.Linear(d_model, vocabulary, bias=False)
        self.register_buffer("future", torch.ones(positions, positions).triu(1).bool())

    def forward(self, tokens):
        residual = self.embed(tokens)
        batch, positions, d_model = residual.shape
        qkv = self.qkv(self.norm(residual)).view(batch, positions, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (d_model // self.heads) ** 0.5
        pattern = scores.masked_fill(self.future, float("-inf")).softmax(-1)
        mixed = (pattern @ value).transpose(1, 2).reshape(batch, positions, d_model)
        residual = residual + self.out(mixed)
        return self.unembed(residual + self.mlp(residual))


def build(architecture, seeds):
    models = []
    for seed in seeds:
        with training.seeded(seed):
            models.append(architecture())
    return models


def reconstruction(model, x, setting):
    return (model(x) - x).pow(2).mean()


def next_token(model, tokens, setting):
    logits = model(tokens)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def features(seed, step, count=5):
    draw = training.generator(seed, step)
    x = torch.rand(32, count, generator=draw)
    return x * (torch.rand(32, count, generator=draw) < 0.3)


def tokens(seed, step):
    return torch.randint(11, (4, 6), generator=training.generator(seed, step))


SEEDS = [0, 1, 2]
WORLDS = {
    "5 to 2": (Toy, reconstruction, features),
    "100 to 10": (partial(Toy, 100, 10), reconstruction, partial(features, count=100)),
    "transformer": (SmallTransformer, next_token, tokens),
}
OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=0.01),
}


def stacked_batches(draw, seeds=SEEDS):
    return lambda step: torch.stack([draw(seed, step) for seed in seeds])


def alone(model, loss, draw, seed, *, optimizer, steps=20, setting=None, **options):
    """The sequential twin: one member, trained by itself."""
    history = training.train(
        model,
        lambda model, step: loss(model, draw(seed, step), setting),
        optimizer=optimizer(model.parameters()),
        steps=steps,
        progress=False,
        **options,
    )
    return model, history


def assert_equal_members(member, twin, rtol=1e-4, atol=1e-5):
    for (name, one), (_, other) in zip(
        member.named_parameters(), twin.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol, msg=name)


def double(build_one):
    return lambda: build_one().double()


def doubled(draw):
    def drawn(seed, step):
        batch = draw(seed, step)
        return batch.double() if batch.is_floating_point() else batch

    return drawn


def trained_both_ways(architecture, loss, draw, optimizer, clip):
    """An ensemble and its record, and the same of its twins."""
    ensemble, history = train_ensemble(
        build(architecture, SEEDS),
        loss,
        batches=stacked_batches(draw),
        steps=20,
        optimizer=optimizer,
        lr=optimizer.keywords["lr"],
        clip=clip,
        progress=False,
    )
    models = zip(SEEDS, build(architecture, SEEDS), strict=True)
    twins = [alone(m, loss, draw, seed, optimizer=optimizer, clip=clip) for seed, m in models]
    return ensemble, history, twins


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
def test_each_member_is_its_sequential_twin_in_double_precision(world, optimizer, clip):
    architecture, loss, draw = world
    ensemble, history, twins = trained_both_ways(
        double(architecture), loss, doubled(draw), optimizer, clip
    )
    for index, (twin, expected) in enumerate(twins):
        assert_equal_members(ensemble.member(index), twin, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(history.loss[:, index], expected.loss, rtol=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_each_member_is_its_sequential_twin_within_float_tolerance(world, optimizer):
    ensemble, history, twins = trained_both_ways(*world, optimizer, None)
    for index, (twin, expected) in enumerate(twins):
        np.testing.assert_allclose(history.loss[:, index], expected.loss, rtol=1e-4, atol=1e-6)
        if isinstance(twin, Toy):  # Adam makes steps of the rounding in the bias of the keys
            assert_equal_members(ensemble.member(index), twin)


@pytest.mark.parametrize("name", ["SGD", "momentum", "AdamW"])
def test_rates_and_decays_of_members_are_those_of_their_twins(name):
    rates, decays = torch.tensor([0.003, 0.01, 0.03]), torch.tensor([0.0, 0.1, 3.0])
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    ensemble, _ = train_ensemble(
        build(Toy, SEEDS),
        reconstruction,
        batches=stacked_batches(features),
        steps=20,
        optimizer=OPTIMIZERS[name],
        lr=rates,
        weight_decay=decays if name == "AdamW" else None,
        scheduler=schedule,
        progress=False,
    )
    for index, model in enumerate(build(Toy, SEEDS)):
        decay = {"weight_decay": float(decays[index])} if name == "AdamW" else {}
        built = OPTIMIZERS[name](model.parameters(), lr=float(rates[index]), **decay)
        twin, _ = alone(
            model,
            reconstruction,
            features,
            SEEDS[index],
            optimizer=lambda _, built=built: built,
            scheduler=schedule(built),
        )
        assert_equal_members(ensemble.member(index), twin)


def test_each_member_gets_its_own_setting():
    strengths = torch.tensor([0.0, 0.1, 1.0])

    def loss(model, x, setting):
        return reconstruction(model, x, None) + setting["strength"] * model.W.abs().sum()

    ensemble, _ = train_ensemble(
        build(Toy, SEEDS),
        loss,
        batches=stacked_batches(features),
        settings={"strength": strengths},
        steps=10,
        progress=False,
    )
    for index, model in enumerate(build(Toy, SEEDS)):
        setting = {"strength": strengths[index]}
        adam = partial(torch.optim.AdamW, lr=1e-3)
        twin, _ = alone(
            model, loss, features, SEEDS[index], optimizer=adam, steps=10, setting=setting
        )
        assert_equal_members(ensemble.member(index), twin)


def test_shared_batch_is_seen_whole_by_every_member():
    seen = []

    def loss(model, x, setting):
        seen.append(x.shape)
        return reconstruction(model, x, setting)

    options = {"batches": lambda step: features(0, step), "steps": 2, "progress": False}
    train_ensemble(build(Toy, SEEDS), loss, shared_batches=True, **options)
    assert set(seen) == {(32, 5)}


def test_tied_and_frozen_parameters_stay_so():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Linear(5, 5, bias=False)
            self.up = nn.Linear(5, 5, bias=False)
            self.up.weight = self.down.weight
            self.frozen = nn.Parameter(torch.randn(5), requires_grad=False)

        def forward(self, x):
            return self.up(self.down(x)) + self.frozen

    models = build(Tied, SEEDS)
    ensemble, _ = train_ensemble(
        models, reconstruction, batches=stacked_batches(features), steps=5, progress=False
    )
    for member, start in zip(ensemble.members(), models, strict=True):
        assert member.up.weight is member.down.weight
        assert torch.equal(member.frozen, start.frozen)
        assert not torch.equal(member.up.weight, start.up.weight)


@given(size=st.integers(1, 5), batch=st.integers(1, 4), width=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_map_is_the_loop_over_members(size, batch, width):
    models = build(partial(nn.Linear, width, 2), range(size))
    x = torch.rand(size, batch, width)
    mapped = Ensemble(models).map(lambda model, x: model(x), x)
    looped = torch.stack([model(one) for model, one in zip(models, x, strict=True)])
    torch.testing.assert_close(mapped, looped)


def test_buffers_alike_and_different_reach_their_members():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("own", torch.randn(2))
            self.register_buffer("alike", torch.ones(2))
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self):
            return self.weight + self.own + self.alike

    models = build(Shifted, SEEDS)
    ensemble = Ensemble(models)
    expected = torch.stack([model() for model in models])
    torch.testing.assert_close(ensemble.map(lambda model: model()), expected)
    torch.testing.assert_close(torch.stack([m() for m in ensemble.members()]), expected)


def test_models_given_are_left_alone():
    models = build(Toy, SEEDS)
    train_ensemble(
        models, reconstruction, batches=stacked_batches(features), steps=3, progress=False
    )
    for model, untouched in zip(models, build(Toy, SEEDS), strict=True):
        assert torch.equal(model.W, untouched.W)


def test_nan_names_member_and_step():
    def loss(model, x, setting):
        return reconstruction(model, x["x"], setting) * x["factor"]

    def batches(step):
        factor = torch.ones(3)
        if step == 4:
            factor[1] = float("nan")
        return {"x": stacked_batches(features)(step), "factor": factor}

    with pytest.raises(TrainingError, match=r"stopped at step 4: the loss of member 1 is nan"):
        train_ensemble(build(Toy, SEEDS), loss, batches=batches, steps=9, progress=False)


def test_resumed_ensemble_ends_with_the_same_bits(tmp_path):
    options = {
        "steps": 9,
        "lr": torch.tensor([0.01, 0.02, 0.03]),
        "weight_decay": 0.1,
        "metrics": lambda ensemble, step: {"norm": ensemble.map(lambda m: m.W.norm())},
        "metrics_every": 2,
        "checkpoint_every": 4,
        "progress": False,
    }

    def killed(step):
        if step == 6:
            raise KeyboardInterrupt
        return stacked_batches(features)(step)

    file = tmp_path / "ensemble.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(
            build(Toy, SEEDS), reconstruction, batches=killed, checkpoint=file, **options
        )
    batches = stacked_batches(features)
    one, history = train_ensemble(
        build(Toy, SEEDS), reconstruction, batches=batches, checkpoint=file, **options
    )
    other, expected = train_ensemble(build(Toy, SEEDS), reconstruction, batches=batches, **options)
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    np.testing.assert_array_equal(history.loss, expected.loss)
    np.testing.assert_array_equal(history.metrics["norm"], expected.metrics["norm"])
    assert history.metrics["norm"].shape == (6, 3)
    with pytest.raises(TrainingError, match=r"run: settings is 0\.1 there and 0\.2 here"):
        train_ensemble(
            build(Toy, SEEDS),
            reconstruction,
            batches=batches,
            checkpoint=file,
            **(options | {"weight_decay": 0.2}),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "at least one model"),
        ({"models": [Toy(5), Toy(6)]}, "model 1 has other parameters than model 0"),
        ({"batches": lambda step: torch.rand(2, 5)}, "leading axis of 3"),
        ({"settings": torch.rand(4)}, "leading axis of 3"),
        ({"lr": torch.rand(2)}, "lr is .*one number or 3"),
        ({"lr": -1.0}, "none negative"),
        ({"weight_decay": torch.tensor([0.0, float("nan"), 0.0])}, "weight_decay is"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS mixes the elements"),
        ({"loss": lambda model, x, setting: model(x)}, "scalar tensor"),
    ],
)
def test_bad_arguments_are_refused_with_a_way_out(change, message):
    given = {
        "models": build(Toy, SEEDS),
        "loss": reconstruction,
        "batches": stacked_batches(features),
        "steps": 2,
        "progress": False,
    }
    with pytest.raises(ValueError, match=message):
        train_ensemble(**(given | change))


def test_transformer_bridges_stack_and_come_back_as_bridges():
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    def bridge(seed):
        shape = {"n_layers": 1, "d_model": 8, "n_ctx": 6, "d_head": 4, "n_heads": 2, "d_vocab": 11}
        config = TransformerBridgeConfig(
            **shape, attn_only=True, normalization_type=None, seed=seed
        )
        return TransformerBridge.boot_native(config)

    ensemble, _ = train_ensemble(
        [bridge(seed) for seed in SEEDS],
        next_token,
        batches=stacked_batches(tokens),
        steps=5,
        lr=0.01,
        progress=False,
    )
    adam = partial(torch.optim.AdamW, lr=0.01)
    twin, _ = alone(bridge(SEEDS[1]), next_token, tokens, SEEDS[1], optimizer=adam, steps=5)
    member = ensemble.member(1)
    torch.testing.assert_close(member.W_Q, twin.W_Q, rtol=1e-4, atol=1e-5)
    logits, cache = member.run_with_cache(tokens(0, 0))
    torch.testing.assert_close(logits, twin(tokens(0, 0)), rtol=1e-4, atol=1e-4)
    assert cache["blocks.0.attn.hook_pattern"].shape == (4, 2, 6, 6)
