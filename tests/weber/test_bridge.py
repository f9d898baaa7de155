"""Language models as judges: answers' tokens, views, calibration, and the probe for length."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mechbook.weber import bridge
from mechbook.weber.bridge import BridgeObserver
from mechbook.weber.stimuli import Design, Trial, pairs, write
from mechbook.weber.templates import CONTINUED, Template

WORDS = ("cat", "dog", "cow")
TRIALS = write(pairs(Design((6,), (2, 4), 4)), WORDS)
VOCABULARY = ["<s>", *WORDS, "Left:", "Right:", "The", "side", "with", "more", "words", "is", "the"]
VOCABULARY += ["left", "right", *(f"{word}." for word in WORDS)]


class Tokenizer:
    """One token a word, where the words are known."""

    bos_token_id = 0
    eos_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": [VOCABULARY.index(word) for word in text.split()]}


class Toy:
    """A judge with a known rule: right minus left is gain · difference + for_right + for_last."""

    def __init__(self, gain=0.0, for_right=0.0, for_last=0.0, n_ctx=60):
        self.gain, self.for_right, self.for_last = gain, for_right, for_last
        self.tokenizer, self.lengths = Tokenizer(), []
        self.cfg = SimpleNamespace(n_ctx=n_ctx)

    def __call__(self, tokens):
        self.lengths.append(tuple(tokens.shape))
        logits = torch.zeros(*tokens.shape, len(VOCABULARY))
        for row, ids in enumerate(tokens.tolist()):
            left, right = (
                ids.index(VOCABULARY.index("Left:")),
                ids.index(VOCABULARY.index("Right:")),
            )
            end, first = ids.index(VOCABULARY.index("The")), min(left, right)
            blocks = {first: abs(right - left), max(left, right): end - max(left, right)}
            last = 1.0 if right > left else -1.0
            odds = (
                self.gain * (blocks[right] - blocks[left]) + self.for_right + self.for_last * last
            )
            logits[row, -1, VOCABULARY.index("right")] = odds
        return logits


DIFFERENCES = np.array([trial.difference for trial in TRIALS])


def test_a_judge_of_counts_is_read_off_exactly():
    found = BridgeObserver(Toy(gain=0.3)).log_odds(TRIALS)
    assert found == pytest.approx(0.3 * DIFFERENCES, abs=1e-5)


def test_p_is_the_softmax_of_the_two_answers():
    found = BridgeObserver(Toy(gain=0.3)).judge(TRIALS[:1])[0]
    assert math.log(found / (1 - found)) == pytest.approx(0.3 * DIFFERENCES[0], abs=1e-5)


@pytest.mark.parametrize("bias", [{"for_right": 2.0}, {"for_last": 2.0}])
def test_four_views_cancel_a_preference_for_a_word_or_a_place(bias):
    judge = BridgeObserver(Toy(gain=0.3, **bias))
    assert judge.log_odds(TRIALS) == pytest.approx(0.3 * DIFFERENCES, abs=1e-5)
    judge.counterbalanced = False
    assert judge.log_odds(TRIALS) == pytest.approx(0.3 * DIFFERENCES + 2, abs=1e-5)


def test_calibration_takes_off_what_is_there_without_a_difference():
    judge = BridgeObserver(Toy(gain=0.3, for_right=2.0), counterbalanced=False)
    assert judge.calibrate(TRIALS) == pytest.approx(2, abs=1e-5)
    assert judge.log_odds(TRIALS) == pytest.approx(0.3 * DIFFERENCES, abs=1e-5)
    with pytest.raises(ValueError, match="add up to 0"):
        judge.calibrate([trial for trial in TRIALS if trial.difference > 0])


def test_prompts_of_one_length_share_a_pass_up_to_the_batch():
    model = Toy()
    BridgeObserver(model, batch=5).judge(TRIALS)
    assert max(rows for rows, _ in model.lengths) <= 5
    assert sum(rows for rows, _ in model.lengths) == 4 * len(TRIALS)


def test_a_prompt_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="the model reads 12"):
        BridgeObserver(Toy(n_ctx=12)).judge(TRIALS)


def test_answers_that_begin_alike_are_refused():
    alike = Template("alike", "Left: {text} ", "Right: {text} ", "The", (" left dog", " left cat"))
    with pytest.raises(ValueError, match="one and the same token"):
        bridge.answer_tokens(Toy(), alike)


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="no trials"):
        BridgeObserver(Toy()).judge([])


def test_the_answers_tokens_are_those_of_the_words():
    assert bridge.answer_tokens(Toy(), CONTINUED) == (13, 14)


# --- the probe --------------------------------------------------------------------------------


def test_texts_for_the_probe_have_their_lengths_and_one_last_word():
    rows, lengths = bridge.length_rows(Toy(), WORDS, (2, 5), each=3)
    assert [len(row) - 1 for row in rows] == lengths.tolist() == [2] * 3 + [5] * 3
    assert {int(row[-1]) for row in rows} == {VOCABULARY.index("cat")}


def test_a_probe_finds_what_is_linear_and_nothing_in_shuffled_rows():
    draw = torch.Generator().manual_seed(0)
    streams = torch.randn(200, 10, generator=draw)
    target = (streams @ torch.randn(10, generator=draw)).numpy()
    assert bridge.probe(streams, target) > 0.99
    assert bridge.probe(streams, target, shuffled=True) < 0.1


@pytest.mark.parametrize("target", [np.ones(50), np.arange(3)])
def test_a_probe_refuses_what_cannot_be_probed(target):
    with pytest.raises(ValueError, match="at least 5"):
        bridge.probe(torch.randn(len(target), 4), target)


def test_the_books_model_can_be_asked():
    from mechbook.language_model import weights

    judge = BridgeObserver(weights.load())
    trials = [Trial("house and tree", "water", 3, 1, 2), Trial("water", "house and tree", 1, 3, 2)]
    odds = judge.log_odds(trials)
    assert np.isfinite(odds).all()
    assert odds[0] == pytest.approx(-odds[1], abs=1e-4)  # the same four views, sides exchanged
    streams = bridge.last_streams(
        judge.model, [torch.tensor([0, 900, 901]), torch.tensor([0, 902])]
    )
    assert streams.shape == (judge.model.cfg.n_layers + 1, 2, judge.model.cfg.d_model)
