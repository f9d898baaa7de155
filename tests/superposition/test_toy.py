import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.superposition import toy
from mechbook.superposition.toy import Features, Toy, ToyConfig


def drawn(features, density, count=200_000):
    return toy.sample(features, density, count, training.generator(0))


@pytest.mark.parametrize("relation", toy.RELATIONS)
def test_each_feature_is_there_with_the_given_probability(relation):
    there = (drawn(Features(4, relation), 0.2) > 0).float().mean(0)
    assert torch.allclose(there, torch.full((4,), 0.2), atol=0.005)


def test_correlated_features_are_all_there_or_all_absent():
    there = drawn(Features(6, "correlated", group=3), 0.3, 500) > 0
    groups = there.unflatten(1, (2, 3))
    assert torch.equal(groups.all(-1), groups.any(-1))
    assert bool(groups[:, 0].any(-1).ne(groups[:, 1].any(-1)).any())


def test_of_anticorrelated_features_at_most_one_is_there():
    there = drawn(Features(6, "anticorrelated", group=3), 0.3, 2000) > 0
    assert int(there.unflatten(1, (2, 3)).sum(-1).max()) == 1


def test_independent_features_meet_as_often_as_chance_has_it():
    there = (drawn(Features(2), 0.3) > 0).float()
    assert float((there[:, 0] * there[:, 1]).mean()) == pytest.approx(0.09, abs=0.003)


@pytest.mark.parametrize(
    ("relation", "covariance"),
    [("correlated", lambda p: (p - p**2) / 4), ("anticorrelated", lambda p: -(p**2) / 4)],
)
def test_the_correlation_of_the_values_has_a_closed_form(relation, covariance):
    p = 0.2
    measured = torch.corrcoef(drawn(Features(2, relation), p).T)[0, 1]
    assert float(measured) == pytest.approx(covariance(p) / (p / 3 - p**2 / 4), abs=0.01)


def test_signed_sizes_lie_on_both_sides():
    x = drawn(Features(2, signed=True), 1.0, 5000)
    assert float(x.min()) < -0.9
    assert float(x.max()) > 0.9
    assert float(x.mean()) == pytest.approx(0, abs=0.03)


def test_a_higher_density_only_adds_features():
    coins, sizes = torch.rand(2, 100, 4, generator=training.generator(1))
    few, many = (Features(4).values(coins, sizes, p) for p in (0.2, 0.6))
    assert torch.equal(few[few > 0], many[few > 0])
    assert int((many > 0).sum()) > int((few > 0).sum())


@pytest.mark.parametrize("density", [-0.1, 1.1, math.nan])
def test_a_density_that_is_no_probability_is_refused(density):
    with pytest.raises(ValueError, match="give a probability from 0 to 1"):
        toy.sample(Features(2), density, 3, training.generator(0))


def test_features_that_exclude_each_other_cannot_be_there_too_often():
    with pytest.raises(ValueError, match=r"from 0 to 0\.5"):
        toy.sample(Features(4, "anticorrelated"), 0.6, 3, training.generator(0))


@pytest.mark.parametrize(
    "given", [{"relation": "friends"}, {"n": 5, "relation": "correlated"}, {"n": 0}, {"group": 0}]
)
def test_features_that_do_not_work_out_are_refused(given):
    with pytest.raises(ValueError, match="give"):
        Features(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_hidden": 6}, "from 1 to as many"),
        ({"n_hidden": 0}, "from 1 to as many"),
        ({"importance": -0.5}, "none negative"),
        ({"importance": (1.0, 1.0, 1.0, 1.0, -1.0)}, "none negative"),
        ({"importance": (1.0, 0.5)}, "one a feature"),
    ],
)
def test_a_model_that_cannot_be_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        ToyConfig(**given)


def test_importance_is_a_power_or_a_weight_a_feature():
    assert ToyConfig(importance=0.5).weights.tolist() == [1, 0.5, 0.25, 0.125, 0.0625]
    assert ToyConfig(importance=(1.0, 2.0, 0.0, 0.0, 3.0)).weights.tolist() == [1, 2, 0, 0, 3]


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 4), n=st.integers(4, 7), seed=st.integers(0, 9), relu=st.booleans())
def test_the_model_is_its_equation_feature_by_feature(m, n, seed, relu):
    model = Toy(ToyConfig(Features(n), m, relu=relu), seed)
    model.b.data = torch.randn(n, generator=training.generator(seed, 1))
    x = torch.rand(3, n, generator=training.generator(seed, 2))
    W, b = model.W.tolist(), model.b.tolist()
    for row, out in zip(x.tolist(), model(x).tolist(), strict=True):
        for i in range(n):
            h = [sum(W[k][j] * row[j] for j in range(n)) for k in range(m)]
            wanted = b[i] + sum(W[k][i] * h[k] for k in range(m))
            assert out[i] == pytest.approx(max(wanted, 0) if relu else wanted, abs=1e-5)


def test_neurons_are_clipped_on_the_way():
    model = Toy(ToyConfig(Features(2), 1, neurons=True))
    model.W.data = torch.tensor([[1.0, -1.0]])
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert model.hidden(x).tolist() == [[0.0], [1.0]]
    assert model(x).tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_the_start_depends_on_the_seed_alone():
    config = ToyConfig(steps=1)
    one, two = (toy.train(config, p, [3, 4]) for p in ((0.5,), (0.2, 0.9)))
    assert torch.equal(one.start[0], two.start[1])
    assert not torch.equal(one.start[0, 0], one.start[0, 1])


def test_a_member_ends_where_it_would_have_ended_alone():
    config = ToyConfig(steps=40)
    together = toy.train(config, (0.5, 0.1), [0, 1])
    alone = toy.train(config, (0.1,), [1])
    assert torch.allclose(together.W[1, 1], alone.W[0, 0], atol=1e-5)
    assert torch.allclose(together.b[1, 1], alone.b[0, 0], atol=1e-5)
    assert float(together.loss[1, 1]) == pytest.approx(float(alone.loss[0, 0]), rel=1e-4)


def test_training_without_a_density_or_a_seed_is_refused():
    for densities, seeds in (((), [0]), ((0.5,), [])):
        with pytest.raises(ValueError, match="give at least one each"):
            toy.train(ToyConfig(), densities, seeds)


def test_the_same_starts_can_see_other_data():
    config = toy.ToyConfig(toy.Features(3), steps=5, batch=8)
    one, other = (toy.train(config, (0.5,), [1], data=[seed]) for seed in (1, 2))
    assert torch.equal(one.start, other.start)
    assert torch.equal(one.W, toy.train(config, (0.5,), [1]).W)
    assert not torch.equal(one.W, other.W)
    with pytest.raises(ValueError, match="1 starts, 2 seeds"):
        toy.train(config, (0.5,), [1], data=[1, 2])


def test_a_linear_model_finds_the_principal_subspace():
    """Unequal importances, no ReLU: WᵀW ends as the projection onto the first m features."""
    config = ToyConfig(Features(3), 2, importance=(1.0, 0.6, 0.2), relu=False, steps=400)
    W = toy.train(config, (0.5,), [0]).W[0, 0]
    assert torch.allclose(W.T @ W, torch.diag(torch.tensor([1.0, 1.0, 0.0])), atol=0.05)


def test_a_price_of_activity_silences_the_hidden_units():
    layer = {"features": Features(4), "n_hidden": 2, "neurons": True, "steps": 300}
    free, dear = (toy.train(ToyConfig(**layer, activity=a), (0.5,), [0]) for a in (0.0, 2.0))
    x = drawn(Features(4), 0.5, 500)
    active = [float((x @ found.W[0, 0].T).relu().mean()) for found in (free, dear)]
    assert active[1] < 0.05 < active[0]
