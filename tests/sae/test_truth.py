"""Data whose features are known: what the directions and the children are, and bad input."""

import pytest
import torch

from mechbook import training
from mechbook.sae.truth import Truth, random_truth, toy_truth


def test_an_activation_is_the_sum_of_its_features_directions():
    truth = random_truth(9, 4)
    x, h = truth.sample(50, training.generator(0))
    wanted = torch.stack([sum(row[i] * truth.W[:, i] for i in range(9)) for row in x])
    torch.testing.assert_close(h, wanted)


def test_features_come_as_often_as_they_should():
    x, _ = random_truth(9, 4, density=0.2).held_out(20000)
    assert (x > 0).float().mean(0).tolist() == pytest.approx([0.2] * 9, abs=0.015)


def test_a_child_comes_only_with_its_parent_and_as_often_as_given():
    truth = Truth(torch.eye(6), density=0.3, parents=2, child_share=0.25)
    x, _ = truth.held_out(20000)
    for parent, child in ((0, 2), (1, 3)):
        there = x[:, parent] > 0
        assert not bool((x[~there, child] > 0).any())
        assert float((x[there, child] > 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float((x[:, 4:] > 0).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_interference_is_the_root_mean_square_of_the_cosines():
    truth = Truth(torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 2.0]]))
    assert truth.interference == pytest.approx((2 / 6) ** 0.5)


def test_noise_has_the_given_size():
    _, h = Truth(torch.zeros(3, 2), noise=0.4).held_out(20000)
    assert float(h.std()) == pytest.approx(0.4, rel=0.02)


def test_each_seed_has_its_own_data_and_each_price_those_of_its_seed():
    data = random_truth(9, 4).data([0, 1], batch=8, copies=2)
    first = data(3)
    assert first.shape == (4, 8, 4)
    assert torch.equal(first[:2], first[2:])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, data(4))
    assert torch.equal(first, data(3))


def test_a_toy_model_gives_every_feature_a_direction():
    truth = toy_truth(5, 2, steps=500)
    assert truth.W.shape == (2, 5)
    assert float(truth.W.norm(dim=0).min()) > 0.8
    gaps = torch.atan2(*truth.directions.T).sort().values.diff().rad2deg()
    assert gaps.tolist() == pytest.approx([72] * 4, abs=4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"density": 0.0}, "give probabilities"),
        ({"density": 1.5}, "give probabilities"),
        ({"child_share": -0.1}, "give probabilities"),
        ({"parents": 2}, "at most half"),
    ],
)
def test_data_that_cannot_be_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        Truth(torch.eye(3), **config)
