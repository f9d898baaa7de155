import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical

from mechbook import artifacts, corpora, training
from mechbook.language_model import sampling, score


@pytest.fixture
def lively(tiny):
    """Norms and biases that are not 1 and 0, and predictions that are far from even."""
    with torch.no_grad():
        for parameter in tiny.original_model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=training.generator(0))
        tiny.ln_final.weight.mul_(3 / tiny.W_U.norm(dim=0).mean())  # logits differ by about 3
    return tiny


def starts(model, rows):
    return torch.full((rows, 1), int(model.tokenizer.bos_token_id))


def random_tokens(model, rows, length):
    generator = training.generator(1)
    return torch.randint(model.cfg.d_vocab, (rows, length), generator=generator)


# --- reading token by token


@pytest.mark.parametrize("steps", [[1] * 16, [3, 1, 1, 5, 1, 5], [16]])
def test_the_reader_gives_the_models_logits_at_every_position(lively, steps):
    tokens = random_tokens(lively, 3, 16)
    reader, whole = sampling.Reader(lively, 3), lively(tokens)
    for part in tokens.split(steps, 1):
        ours = reader.read(part)
        torch.testing.assert_close(ours, whole[:, reader.length - 1], atol=1e-4, rtol=1e-4)


def test_the_reader_depends_on_what_was_read_before(lively):
    tokens = random_tokens(lively, 2, 4)
    reader, other = sampling.Reader(lively, 2), sampling.Reader(lively, 2)
    reader.read(tokens[:, :3])
    other.read(tokens.flip(0)[:, :3])
    gap = reader.read(tokens[:, 3:]) - other.read(tokens[:, 3:])
    assert float(gap.abs().max()) > 0.1


def test_the_reader_stops_at_the_end_of_its_context(tiny):
    reader = sampling.Reader(tiny, 1)
    reader.read(random_tokens(tiny, 1, 10))
    with pytest.raises(ValueError, match="7 tokens after 10; the model reads 1 to 16"):
        reader.read(random_tokens(tiny, 1, 7))


# --- choosing a word


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_words_come_as_often_as_their_probability_says(temperature):
    logits = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    count = 10_000
    draws = (torch.arange(count) + 0.5) / count
    words = sampling.choose(logits.expand(count, -1), draws, temperature)
    weight = [math.exp(x) ** (1 / temperature) for x in logits.tolist()]
    expected = [count * w / sum(weight) for w in weight]
    np.testing.assert_allclose(torch.bincount(words, minlength=5), expected, atol=1)


def test_a_word_of_no_probability_is_never_chosen():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.0, -math.inf]] * 3)
    draws = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert sampling.choose(logits, draws).tolist() == [1, 1, 3]


def test_a_temperature_near_zero_takes_the_likeliest_word():
    logits = torch.tensor([[1.0, 3.0, 2.999]])
    for temperature in (0, 1e-300, 1e-6):
        assert sampling.choose(logits, torch.tensor([0.999]), temperature).tolist() == [1]


@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=12, unique=True),
    top_p=st.floats(0.01, 0.999),
)
@settings(deadline=None, max_examples=50)
def test_the_nucleus_by_a_loop(weights, top_p):
    probabilities = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    kept, mass = [], 0.0
    for word in sorted(range(len(weights)), key=lambda word: -weights[word]):
        if mass < top_p - 1e-9:
            kept.append(word)
        mass += float(probabilities[word])
    expected = [p / sum(weights[k] for k in kept) * (w in kept) for w, p in enumerate(weights)]
    found = sampling.nucleus(probabilities[None], top_p - 1e-9)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_whole_line_is_no_nucleus():
    probabilities = torch.tensor([[0.5, 0.5 - 1e-12, 1e-12]], dtype=torch.float64)
    assert torch.equal(sampling.nucleus(probabilities, 1.0), probabilities)


# --- writing


def test_without_chance_each_token_is_the_models_best_guess(lively):
    tokens = starts(lively, 1)
    for _ in range(15):
        tokens = torch.cat([tokens, lively(tokens)[:, -1:].argmax(-1)], 1)
    assert torch.equal(sampling.sample(lively, tokens[:, :2], 14, temperature=0), tokens)


def test_a_full_window_is_left_with_the_first_token_and_the_last_quarter(lively):
    written = sampling.sample(lively, starts(lively, 1), 40, temperature=0)[0].tolist()
    text, window = written[:1], written[:1]
    for _ in range(40):
        if len(window) > 16:
            window = text[:1] + text[-4:]
        best = int(lively(torch.tensor([window]))[0, -1].argmax())
        text, window = [*text, best], [*window, best]
    assert written == text


def test_the_prompt_stays(lively):
    prompts = random_tokens(lively, 2, 5)
    written = sampling.sample(lively, prompts, 3)
    assert written.shape == (2, 8)
    assert torch.equal(written[:, :5], prompts)


def test_a_text_does_not_depend_on_its_batch(lively):
    together = sampling.sample(lively, starts(lively, 5), 20)
    assert torch.equal(together, sampling.sample(lively, starts(lively, 5), 20, at_once=2))
    assert torch.equal(together[:3], sampling.sample(lively, starts(lively, 3), 20))


def test_a_longer_text_begins_with_the_shorter(lively):
    longer = sampling.sample(lively, starts(lively, 2), 20)
    assert torch.equal(longer[:, :8], sampling.sample(lively, starts(lively, 2), 7))


def test_rows_and_seeds_differ(lively):
    first, second = sampling.sample(lively, starts(lively, 2), 12)
    other = sampling.sample(lively, starts(lively, 1), 12, seed=1)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_write_goes_on_from_the_prompt(lively):
    text = sampling.write(lively, "The king said", n_tokens=5, seed=3)
    assert text.startswith("The king said")
    assert len(text) > len("The king said")
    assert text == sampling.write(lively, "The king said", n_tokens=5, seed=3)


def test_write_needs_no_prompt(lively):
    text = sampling.write(lively, n_tokens=30)
    assert text
    assert "<|endoftext|>" not in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; give a number above 0, or 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0; give a number above 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"n_tokens": 0}, "n_tokens is 0; give 1 or more"),
        ({"prompt": "the " * 16}, "16 tokens; the model reads at most 15"),
        ({"prompt": None}, "prompt is None; give text"),
    ],
)
def test_wrong_arguments_are_named(tiny, wrong, message):
    with pytest.raises(ValueError, match=message):
        sampling.write(tiny, **wrong)


@pytest.mark.parametrize("shape", [(1, 17), (0, 1), (3, 0), (4,)])
def test_prompts_that_cannot_be_read_are_refused(tiny, shape):
    with pytest.raises(ValueError, match=r"prompts have shape .* 1 to 16 tokens"):
        sampling.sample(tiny, torch.zeros(shape, dtype=torch.long), 1)


# --- entropy and calibration


def test_entropy_as_torch_has_it(lively):
    windows = random_tokens(lively, 5, 9)
    expected = Categorical(logits=lively(windows[:, :-1])).entropy().mean(1)
    torch.testing.assert_close(sampling.entropy(lively, windows, at_once=2), expected)


def gap(model, windows):
    """Loss less entropy: mean over windows, and its standard error."""
    gaps = score.token_losses(model, windows).mean(1) - sampling.entropy(model, windows)
    return float(gaps.mean()), float(gaps.std() / math.sqrt(len(gaps)))


def test_the_loss_on_own_text_is_the_entropy(lively):
    mean, error = gap(lively, sampling.sample(lively, starts(lively, 150), 16))
    assert abs(mean) < 4 * error


def test_the_loss_on_cooler_text_is_less_than_the_entropy(lively):
    windows = sampling.sample(lively, starts(lively, 150), 16, temperature=0.7)
    mean, error = gap(lively, windows)
    assert mean < -8 * error


@pytest.fixture
def guesser():
    """Guesses the token that it reads once more, surer for larger ones; and tokens to guess."""

    def model(tokens):
        sure = tokens[..., None] / 10
        rest = (1 - sure) / 9
        return torch.where(torch.arange(10) == tokens[..., None], sure, rest).log()

    return model, torch.tensor([[9, 9, 9, 4, 4], [9, 9, 4, 8, 8], [3, 3, 3, 3, 9]])


def test_calibration_by_a_loop(guesser):
    model, windows = guesser
    found = sampling.calibration(model, windows, 4, at_once=2)
    guesses = [[] for _ in range(4)]
    for row in windows.tolist():
        for read, came in itertools.pairwise(row):
            guesses[min(int(read / 10 * 4), 3)].append((read / 10, read == came))
    assert found.count.tolist() == [len(group) for group in guesses]
    gaps = 0.0
    for place, group in enumerate(guesses):
        if not group:
            assert torch.isnan(found.predicted[place])
            continue
        predicted, right = np.mean(group, 0)
        assert float(found.predicted[place]) == pytest.approx(predicted, abs=1e-6)
        assert float(found.right[place]) == pytest.approx(right)
        gaps += len(group) * abs(right - predicted)
    assert found.error == pytest.approx(gaps / 12, abs=1e-6)


def test_own_text_is_better_calibrated_than_cooler_text(lively):
    own, cooler = (
        sampling.sample(lively, starts(lively, 150), 16, temperature=heat) for heat in (1.0, 0.5)
    )
    assert sampling.calibration(lively, own).error < 0.05
    assert sampling.calibration(lively, cooler).error > 0.1


def test_no_bins_are_refused(tiny):
    with pytest.raises(ValueError, match="n_bins is 0"):
        sampling.calibration(tiny, random_tokens(tiny, 1, 5), 0)


def test_too_long_windows_are_refused(tiny):
    for measure in (sampling.entropy, sampling.calibration):
        with pytest.raises(ValueError, match="17 tokens; the model reads 1 to 16"):
            measure(tiny, random_tokens(tiny, 1, 18))


# --- the text that ships


@pytest.fixture
def made(lively, monkeypatch):
    monkeypatch.setattr(sampling, "PLAN", ((3, 1.0, 0), (2, 0.7, 1)))
    monkeypatch.setattr(sampling.weights, "load", lambda: lively)
    monkeypatch.setattr(artifacts, "checksum", lambda name: f"sum of {name}")
    return sampling.make_samples()


def test_each_document_is_one_window_that_the_model_wrote(lively, made):
    columns, _ = made
    tokens = sampling.sample(lively, starts(lively, 2), 16, temperature=0.7, seed=1)
    assert columns["text"][3:].tolist() == sampling.decode(lively, tokens)
    assert columns["title"][4] == "sample 1, temperature 0.7"
    assert columns["temperature"].tolist() == [1, 1, 1, 0.7, 0.7]
    assert columns["seed"].tolist() == [0, 0, 0, 1, 1]


def test_the_card_says_who_wrote_it(made):
    _, facts = made
    assert facts["about"].startswith("Text written by the book's own language model, no book")
    assert "3 at temperature 1 and 2 at temperature 0.7" in facts["about"]
    assert facts["seeds"] == [0, 1]
    assert facts["inputs"] == {"language-model": "sum of language-model"}


def test_the_text_is_saved_and_read_as_any_text(made, tmp_path):
    columns, facts = made
    card = artifacts.Card(made_by="a:b", command="make", seconds=1.0, **facts)
    artifacts.save_texts("written", columns, card=card, data=tmp_path)
    found = list(corpora.files(tmp_path / "texts" / "written.parquet"))
    assert [document.text for document in found] == columns["text"].tolist()
    assert [document.title for document in found] == columns["title"].tolist()
