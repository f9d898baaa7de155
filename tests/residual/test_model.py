import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.residual.model import (
    KINDS,
    Language,
    ModelConfig,
    Texts,
    TrainingConfig,
    build,
    entropy,
    favorites,
    held_out,
    ideal_reader,
    kinds,
    next_word_loss,
    run,
    sample,
    train,
    transition,
    words,
)

SMALL = Language(n_words=10, shortest=3, longest=6, length=16)
SMALL_MODEL = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12)


def texts(language=SMALL, batch=6, seed=0):
    return sample(language, batch, training.generator(seed))


@given(n_words=st.integers(2, 70), habit=st.floats(0, 1), seed=st.integers(0, 5))
@settings(deadline=None)
def test_each_row_of_the_transition_is_a_distribution(n_words, habit, seed):
    chances = transition(Language(n_words=n_words, habit=habit, seed=seed))
    assert (chances >= 0).all()
    torch.testing.assert_close(chances.sum(1), torch.ones(n_words))


@given(n_words=st.integers(2, 70), seed=st.integers(0, 5))
@settings(deadline=None)
def test_favorites_form_one_ring(n_words, seed):
    favorite = favorites(Language(n_words=n_words, seed=seed)).tolist()
    word, seen = 0, set()
    while word not in seen:
        seen.add(word)
        word = favorite[word]
    assert len(seen) == n_words


@pytest.mark.parametrize("habit", [0.0, 0.5, 1.0])
def test_entropy_is_that_of_a_row(habit):
    language = Language(habit=habit)
    row = transition(language)[3].double()
    expected = -sum(p * math.log(p) for p in row.tolist() if p > 0)
    assert entropy(language) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_a_text_repeats_its_passage(seed):
    drawn = texts(seed=seed)
    for tokens, period in zip(drawn.tokens.tolist(), drawn.period.tolist(), strict=True):
        assert SMALL.shortest <= period <= SMALL.longest
        assert all(tokens[t] == tokens[t - period] for t in range(period, SMALL.length))


def test_half_of_the_fresh_words_follow_the_habit():
    language = Language()
    drawn = texts(language, 400)
    habitual = drawn.tokens[:, 1:8] == favorites(language)[drawn.tokens[:, :7]]
    assert float(habitual.float().mean()) == pytest.approx(0.5 + 0.5 / 64, abs=0.04)


def test_kinds_of_a_text_written_by_hand():
    language = Language(n_words=5, shortest=3, longest=4, length=7)
    f = favorites(language).tolist()
    other = next(word for word in range(5) if word not in (f[f[0]], f[0], 0))
    passage = [0, f[0], other]
    drawn = Texts(torch.tensor([(passage * 3)[:7]]), torch.tensor([3]))
    found = {kind: mask[0].tolist() for kind, mask in kinds(language, drawn).items()}
    assert found[KINDS[0]] == [True, True, False, False, False, False, False][:6]
    assert found[KINDS[1]] == [False, False, False, True, False, f[other] == 0]
    assert found[KINDS[2]] == [False, False, False, False, True, f[other] != 0]


def test_the_ideal_reader_is_bayes_rule_by_hand():
    drawn, t = texts(batch=1), 9
    tokens, chances = drawn.tokens[0].tolist(), transition(SMALL).double()
    weights, guesses = [], []
    for period in range(SMALL.shortest, SMALL.longest + 1):
        steps = range(1, t + 1)
        copied = [tokens[s] == tokens[s - period] for s in steps if s >= period]
        new = [float(chances[tokens[s - 1], tokens[s]]) for s in steps if s < period]
        weights.append(math.prod(new) * all(copied))
        guess = torch.zeros(10, dtype=torch.float64)
        guess[tokens[t + 1 - period]] = 1
        guesses.append(guess)
    expected = sum(w * g for w, g in zip(weights, guesses, strict=True)) / sum(weights)
    found = ideal_reader(SMALL, drawn)[0, t].exp().double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_nobody_beats_the_ideal_reader_on_average():
    drawn = texts(Language(), 200)
    ideal = next_word_loss(ideal_reader(Language(), drawn), drawn.tokens).mean()
    habit = transition(Language()).log()[drawn.tokens[:, :-1]]
    assert ideal < next_word_loss(habit, drawn.tokens).mean()


def test_words_differ():
    assert len(set(words(Language(n_words=70)))) == 70


@pytest.mark.parametrize(
    "wrong",
    [{"n_words": 1}, {"n_words": 71}, {"habit": 1.2}, {"shortest": 1}, {"longest": 60}],
)
def test_a_language_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        Language(**wrong)


@pytest.mark.parametrize("wrong", [{"n_layers": 0}, {"n_heads": 3}, {"d_model": 9, "n_heads": 3}])
def test_a_model_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="heads"):
        ModelConfig(**wrong)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        texts(batch=0)


def test_training_lowers_the_loss_and_repeats_bit_by_bit():
    config = TrainingConfig(steps=12, batch=8, warmup=3)
    histories = [train(build(SMALL, SMALL_MODEL), SMALL, config) for _ in range(2)]
    assert histories[0].loss[-3:].mean() < histories[0].loss[:3].mean()
    assert histories[0].loss.tolist() == histories[1].loss.tolist()


def test_seeds_give_other_models():
    other = dataclasses.replace(SMALL_MODEL, seed=1)
    assert not torch.equal(build(SMALL, SMALL_MODEL).W_E, build(SMALL, other).W_E)


def test_a_run_has_no_position_for_the_last_word():
    seen = run(build(SMALL, SMALL_MODEL), SMALL, texts())
    assert seen.logits.shape == (6, SMALL.length - 1, SMALL.n_words)
    assert all(mask.shape == seen.logits.shape[:2] for mask in seen.kinds.values())


def test_held_out_texts_are_always_the_same():
    assert torch.equal(held_out(SMALL).tokens, held_out(SMALL).tokens)
