"""Prompts, views, answers and the token budget."""

import numpy as np
import pytest

from mechbook.weber import templates
from mechbook.weber.stimuli import NOTES, Trial, pairs, write
from mechbook.weber.templates import CHAT, CONTINUED, Prices, Template

TRIAL = Trial("one two", "three four five", 2, 3, 2.5)


def words(text):
    return len(text.split())


@pytest.mark.parametrize("template", templates.TEMPLATES.values(), ids=templates.TEMPLATES)
def test_a_prompt_holds_both_texts_once_the_left_first(template):
    prompt = template.prompt(TRIAL)
    assert prompt.count(TRIAL.left) == prompt.count(TRIAL.right) == 1
    assert prompt.index(TRIAL.left) < prompt.index(TRIAL.right)
    assert template.swapped().prompt(TRIAL).index(TRIAL.left) > prompt.index(TRIAL.left)


def test_the_four_views_show_each_text_on_each_side_and_in_each_place():
    shown = [(words.right_first, sign) for _, words, sign in templates.views(TRIAL, CHAT)]
    assert sorted(shown) == [(False, -1), (False, 1), (True, -1), (True, 1)]
    for trial, _, sign in templates.views(TRIAL, CHAT):
        assert trial.difference == sign * TRIAL.difference


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("right", True),
        (" Left.", False),
        ("**Right**", True),
        ("The right side has more words.", True),
        ("left or right", None),
        ("", None),
        ("both have three", None),
        ("bright", None),
        ("leftover", None),
    ],
)
def test_a_reply_is_an_answer_only_where_it_says_just_one_side(reply, answer):
    assert templates.parse(reply, CHAT) is answer


@pytest.mark.parametrize("text", ["no place", "{text} and {text}"])
def test_a_block_without_one_place_for_the_text_is_refused(text):
    with pytest.raises(ValueError, match="just once"):
        Template("bad", text, "{text}", "?", ("a", "b"))


def test_two_answers_that_are_one_are_refused():
    with pytest.raises(ValueError, match="different answers"):
        Template("bad", "{text}", "{text}", "?", ("A", " a"))


def test_braces_in_a_text_stay():
    odd = Trial("{right} {0}", "x", 2, 1, 1.5)
    assert "{right} {0}" in CHAT.prompt(odd)


def test_the_budget_adds_up_to_all_prompts():
    trials = write(pairs(NOTES), ["word"])
    found = templates.token_budget(trials, words, CHAT, overhead=7, answer_tokens=2)
    assert found.difference.tolist() == [-3, -2, -1, 1, 2, 3]
    assert found.trials.tolist() == [15] * 6
    assert found.read.sum() == sum(words(CHAT.prompt(trial)) + 7 for trial in trials)
    assert found.written.tolist() == [30] * 6
    assert np.isnan(found.cost).all()


def test_a_cost_is_tokens_times_price_a_million():
    trials = write(pairs(NOTES), ["word"])
    found = templates.token_budget(trials, words, prices=Prices(2.0, 10.0))
    assert found.cost.sum() == pytest.approx(
        (found.read.sum() * 2 + found.written.sum() * 10) / 1e6
    )


def test_a_budget_without_trials_is_refused():
    with pytest.raises(ValueError, match="no trials"):
        templates.token_budget([], words)


def test_negative_prices_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        Prices(-1, 0)


def test_any_tokenizer_with_encode_counts():
    class Listing:
        def encode(self, text):
            return text.split()

    from mechbook.language_model import weights

    assert templates.counter(Listing())("a b c") == 3
    assert templates.counter(weights.load_tokenizer())("the house and the house") == 5
    with pytest.raises(ValueError, match="no method encode"):
        templates.counter(3)


def test_a_words_size_in_tokens_is_what_it_adds():
    def letters(text):
        return len(text.replace(" ", ""))

    assert templates.token_size(letters)("house") == 5


def test_the_continued_template_ends_where_the_answer_begins():
    assert not CONTINUED.prompt(TRIAL).endswith(" ")
    assert all(answer.startswith(" ") for answer in CONTINUED.answers)
