import pytest
import torch

from mechbook import training
from mechbook.geometry import concepts, inner_products
from mechbook.geometry.concepts import CONCEPTS, FOUR_WORDS
from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model import weights


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.wrap(weights.load_tokenizer(), 128)


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_every_word_of_the_book_is_one_token(tokenizer, concept):
    ids = concepts.pair_ids(tokenizer, concept)
    assert ids.shape == (len(concept.pairs), 2)
    assert tokenizer.convert_ids_to_tokens(ids.flatten().tolist()) == [
        word for pair in concept.pairs for word in pair
    ]


def test_pairs_outside_the_vocabulary_are_left_out(tokenizer):
    concept = concepts.Concept("c", "f", (("king", "queen"), ("zymology", "king")))
    assert concepts.in_vocabulary(tokenizer, concept).pairs == (("king", "queen"),)


def test_there_are_eight_concepts_or_more_with_names_of_their_own():
    assert len(CONCEPTS) >= 8
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    assert all(len(set(c.pairs)) == len(c.pairs) >= 7 for c in CONCEPTS)


def test_the_notes_words_are_a_parallelogram():
    w = FOUR_WORDS
    assert (w["woman"] - w["man"]).tolist() == [-1, 1, 0]
    assert (w["queen"] - w["king"]).tolist() == [-1, 1, 0]
    assert (w["king"] - w["man"]).tolist() == (w["queen"] - w["woman"]).tolist() == [1, 0, 1]


def language(noise, seed=0):
    """Twenty pairs that differ by one direction and noise."""
    draw = training.generator(seed)
    base = torch.randn(20, 50, generator=draw, dtype=torch.float64)
    step = torch.randn(50, generator=draw, dtype=torch.float64)
    target = base + step + noise * torch.randn(20, 50, generator=draw, dtype=torch.float64)
    return torch.cat([base, target]), torch.arange(40).reshape(2, 20).T, step


def test_the_direction_is_the_mean_difference():
    gamma, ids, step = language(0.0)
    found = concepts.direction(concepts.differences(gamma, ids))
    assert torch.allclose(found, step / step.norm())


def test_held_out_pairs_point_along_the_others():
    eye = torch.eye(50, dtype=torch.float64)
    gamma, ids, _ = language(0.3)
    right = concepts.held_out_cosines(concepts.differences(gamma, ids), eye)
    wrong = concepts.held_out_cosines(
        concepts.differences(gamma, concepts.shuffled(ids, training.generator(0))), eye
    )
    assert float(right.mean()) > 0.9 > 0.7 > float(wrong.mean())


def test_a_pair_held_out_is_not_in_its_own_mean():
    found = torch.randn(6, 4, generator=training.generator(0))
    others = concepts.held_out_directions(found)
    assert torch.allclose(others[2], found[[0, 1, 3, 4, 5]].mean(0), atol=1e-6)


def test_the_place_along_the_others_step_parts_the_words_of_a_pair():
    gamma, ids, step = language(0.0)
    along = concepts.scalars(gamma, ids)
    assert along.shape == (20, 2)
    assert torch.allclose(along[:, 1] - along[:, 0], step.norm().expand(20))
    assert float(along.mean()) == pytest.approx(0, abs=1e-9)  # from the mean of all words


def test_one_dimension_is_enough_without_noise():
    gamma, ids, _ = language(0.0)
    assert concepts.one_dimension_share(concepts.differences(gamma, ids)) == pytest.approx(1)
    noise = torch.randn(20, 50, generator=training.generator(1))
    assert concepts.one_dimension_share(noise) < 0.3


def test_analogies_are_ranked_with_and_without_the_base():
    gamma, ids, _ = language(0.1)
    found = concepts.analogy_ranks(gamma, ids)
    assert bool((found["without the base"] == 1).all())
    assert bool((found["all words"] >= found["without the base"]).all())
    still = concepts.analogy_ranks(gamma, ids, step=0.0)
    assert bool((still["all words"] > 1).all())  # the base itself is nearest


def test_shuffled_pairs_have_the_same_words_and_no_pair_in_common():
    ids = torch.arange(24).reshape(12, 2)
    for seed in range(5):
        other = concepts.shuffled(ids, training.generator(seed))
        assert torch.equal(other[:, 0], ids[:, 0])
        assert torch.equal(other[:, 1].sort().values, ids[:, 1])
        assert not bool((other[:, 1] == ids[:, 1]).any())


def test_disjoint_concepts_share_no_word():
    one = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7], [20, 21]])
    other = torch.tensor([[0, 11], [2, 13], [4, 15], [6, 17], [30, 31]])
    left, right = concepts.disjoint(one, other)
    assert not set(left.flatten().tolist()) & set(right.flatten().tolist())
    assert min(len(left), len(right)) >= 2
    assert len(left) + len(right) == 6  # each shared word is given to one of the two


def test_concepts_that_share_nothing_are_left_alone():
    one, other = torch.arange(8).reshape(4, 2), torch.arange(8, 16).reshape(4, 2)
    left, right = concepts.disjoint(one, other)
    assert torch.equal(left, one)
    assert torch.equal(right, other)


def test_concepts_of_one_family_are_not_separable():
    found = concepts.pairings(CONCEPTS)
    total = len(CONCEPTS) * (len(CONCEPTS) - 1) // 2
    assert len(found["separable"]) + len(found["not separable"]) == total
    for one, other in found["not separable"]:
        assert CONCEPTS[one].family == CONCEPTS[other].family
    for one, other in found["separable"]:
        assert CONCEPTS[one].family != CONCEPTS[other].family


def test_directions_side_by_side_come_from_disjoint_pairs():
    gamma = torch.eye(12, dtype=torch.float64)  # a difference shows which words it is made of
    one = torch.tensor([[0, 1], [2, 3], [4, 5]])
    other = torch.tensor([[0, 6], [2, 7], [8, 9], [10, 11]])
    (both,) = concepts.side_by_side(gamma, [one, other], [(0, 1)])
    assert both.shape == (2, 12)
    assert not bool((both[0] * both[1]).any())
    assert both.sum(-1).tolist() == pytest.approx([0, 0])


def test_a_half_is_half_of_the_pairs():
    ids = torch.arange(22).reshape(11, 2)
    some = concepts.half(ids, training.generator(0))
    assert len(some) == 6
    assert {tuple(pair) for pair in some.tolist()} < {tuple(pair) for pair in ids.tolist()}


def test_random_directions_share_no_word():
    draws = concepts.random_directions(
        torch.eye(40, dtype=torch.float64), 5, 8, training.generator(0)
    )
    assert draws.shape == (5, 2, 40)
    assert not bool((draws[:, 0] * draws[:, 1]).any())


def test_random_pairs_can_be_ordered():
    gamma = torch.arange(40, dtype=torch.float64)[:, None]  # a difference is that of the order
    free = concepts.random_directions(gamma, 20, 3, training.generator(0))
    sorted_ = concepts.random_directions(gamma, 20, 3, training.generator(0), order=gamma[:, 0])
    assert bool((sorted_ < 0).all())
    assert bool((free > 0).any())


def test_random_pairs_use_no_word_twice():
    assert concepts.random_pairs(30, 15, training.generator(0)).unique().numel() == 30


def test_bad_input_is_refused(tokenizer):
    with pytest.raises(ValueError, match="tokens for this tokenizer"):
        concepts.token_ids(tokenizer, ["king", "zymology"])
    with pytest.raises(ValueError, match="no concept"):
        concepts.named("?")
    with pytest.raises(ValueError, match="one pair or more"):
        concepts.direction(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="cancel"):
        concepts.direction(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match="two or more"):
        concepts.held_out_directions(torch.ones(1, 3))
    with pytest.raises(ValueError, match="do not make"):
        concepts.random_pairs(5, 3, training.generator(0))
    with pytest.raises(ValueError, match="without a common word"):
        concepts.disjoint(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 5], [2, 7]]))
    with pytest.raises(ValueError, match="length 0"):
        inner_products.angle(torch.zeros(3), torch.ones(3), torch.eye(3))
