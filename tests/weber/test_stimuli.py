"""Trials: the pairs that a design asks for and those that cannot be, words, and controls of size."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechbook.corpora import Document
from mechbook.weber import stimuli
from mechbook.weber.stimuli import Design, pairs, write

WORDS = tuple("a" * length + end for length in range(1, 10) for end in "xyz")


def test_the_notes_design_has_ten_trials_a_size_five_for_each_side():
    shown = pairs(stimuli.NOTES)
    cells = Counter(zip(shown.mean.tolist(), shown.difference.tolist(), strict=True))
    assert cells == {(a, d): 5 for a in (10, 20, 30) for d in (-3, -2, -1, 1, 2, 3)}


def test_even_differences_have_just_the_mean_and_odd_ones_a_sum_beside_it():
    for (mean, difference), sums in stimuli.summary(pairs(stimuli.NOTES)).items():
        beside = {2 * mean} if difference % 2 == 0 else {2 * mean - 1, 2 * mean + 1}
        assert set(sums) == beside


@given(
    mean=st.integers(6, 60),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=6, unique=True),
    half=st.integers(1, 8),
)
def test_at_each_mean_and_size_the_sums_average_to_twice_the_mean(mean, sizes, half):
    shown = pairs(Design((mean,), tuple(sizes), 2 * half))
    for size in sizes:
        rows = abs(shown.difference) == size
        assert (shown.m + shown.n)[rows].mean() == 2 * mean
        assert (shown.difference[rows] > 0).mean() == 0.5


@given(half=st.integers(1, 9), seed=st.integers(0, 99))
def test_no_side_goes_with_the_larger_sums(half, seed):
    shown = pairs(Design((10, 20), (1, 2, 3, 5, 7), 2 * half, seed=seed))
    right = shown.difference > 0
    sums = shown.m + shown.n - 2 * shown.mean
    assert abs(sums[right].sum()) == 0
    assert abs(sums[~right].sum()) == 0


def test_a_mean_of_a_half_makes_odd_differences_exact():
    assert stimuli.sums(10.5, 3, "exact") == (21,)
    assert stimuli.sums(10.5, 2) == (20, 22)


def test_the_seed_decides_the_order():
    one, again, other = (pairs(Design(seed=seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.n, again.n)
    assert not np.array_equal(one.n, other.n)


@pytest.mark.parametrize(
    ("design", "words"),
    [
        ({"means": (10,), "differences": (3,), "parity": "exact"}, "both even or both odd"),
        ({"means": (5,), "differences": (12,)}, "no word on one side"),
        ({"means": (10,), "differences": (20,)}, "no word on one side"),
        ({"means": (10.3,)}, "multiple of one half"),
        ({"differences": (1.5,)}, "whole number"),
        ({"per_size": 5}, "even number"),
        ({"per_size": 0}, "even number"),
        ({"means": ()}, "at least one mean"),
        ({"parity": "odd"}, "balanced"),
    ],
)
def test_an_impossible_design_is_refused_with_the_reason(design, words):
    with pytest.raises(ValueError, match=words):
        Design(**design)


def test_texts_have_as_many_words_as_the_pair_says():
    for trial in write(pairs(stimuli.NOTES), WORDS):
        assert (len(trial.left.split(" ")), len(trial.right.split(" "))) == (trial.m, trial.n)


def test_words_are_the_same_for_the_same_seed_only():
    shown = pairs(stimuli.FIRST_STAGE)
    assert write(shown, WORDS, seed=1) == write(shown, WORDS, seed=1)
    assert write(shown, WORDS, seed=1) != write(shown, WORDS, seed=2)


def test_equal_totals_leave_no_letter_of_difference():
    for trial in write(pairs(stimuli.NOTES), WORDS, totals="equal"):
        assert len(trial.left.replace(" ", "")) == len(trial.right.replace(" ", ""))


@pytest.mark.parametrize(("totals", "score"), [("equal", 0.5), ("reversed", 0.0)])
def test_whoever_looks_at_size_alone_scores(totals, score):
    trials = write(pairs(stimuli.NOTES), WORDS, totals=totals)
    assert stimuli.share_of_longer(trials) == score


def test_words_of_one_size_make_size_a_perfect_guide():
    assert stimuli.share_of_longer(write(pairs(stimuli.NOTES), ["abc"])) == 1


def test_totals_hold_for_any_size_of_a_word():
    def vowels(word):
        return word.count("a")

    for trial in write(pairs(stimuli.FIRST_STAGE), WORDS, totals="equal", size=vowels):
        assert trial.left.count("a") == trial.right.count("a")


def test_totals_that_the_words_cannot_reach_are_refused():
    with pytest.raises(ValueError, match="shorter and longer words"):
        write(pairs(stimuli.FIRST_STAGE), ["abc"], totals="equal")


@pytest.mark.parametrize(
    ("source", "totals", "words"),
    [([], "free", "must hold words"), (["two words"], "free", "space"), (["a"], "same", "free")],
)
def test_bad_words_are_refused(source, totals, words):
    with pytest.raises(ValueError, match=words):
        write(pairs(stimuli.FIRST_STAGE), source, totals=totals)


def test_running_words_keep_their_frequency_and_lose_marks_and_capitals():
    document = Document("It's the cat, the CAT.", "", "", "train", 0)
    assert stimuli.words_of([document]) == ("it's", "the", "cat", "the", "cat")


def test_a_text_without_words_is_refused():
    with pytest.raises(ValueError, match="no word"):
        stimuli.words_of(["42 !"])


def test_shipped_words_are_one_token_each_and_say_so():
    from mechbook.language_model import weights

    words, tokenizer = stimuli.shipped_words(), weights.load_tokenizer()
    assert len(words) > 3000
    assert not {"con", "ex", "ch", "pro", "seven", "left"} & set(words)
    assert {"house", "water", "thought"} <= set(words)
    assert all(len(tokenizer.encode(word).ids) == 1 for word in words[::37])


def test_a_mirrored_trial_has_the_other_answer():
    trial = write(pairs(stimuli.FIRST_STAGE), WORDS)[0]
    assert trial.mirrored().difference == -trial.difference
    assert trial.mirrored().mirrored() == trial
