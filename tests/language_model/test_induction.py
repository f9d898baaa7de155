import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.language_model import induction, score

HALF = 7


class Copier:
    """Repeats what came after the last earlier occurrence; knows nothing else."""

    def __init__(self, tokenizer, sure=1e4):
        self.tokenizer = SimpleNamespace(backend_tokenizer=tokenizer)
        self.n_types, self.sure = tokenizer.get_vocab_size(), sure

    def __call__(self, tokens):
        logits = torch.zeros(*tokens.shape, self.n_types)
        for row, text in enumerate(tokens.tolist()):
            for place, token in enumerate(text):
                earlier = [i for i in range(place) if text[i] == token]
                if earlier:
                    logits[row, place, text[earlier[-1] + 1]] = self.sure
        return logits


@pytest.fixture
def copier(tokenizer):
    return Copier(tokenizer)


@pytest.fixture
def texts(tokenizer):
    n_types, words = tokenizer.get_vocab_size(), induction.whole_words(tokenizer)
    return induction.repeated(n_types, HALF, 5, training.generator(0), words)


@pytest.fixture
def fresh(tokenizer):
    return induction.unrepeated(tokenizer.get_vocab_size(), HALF, 5, training.generator(0))


@pytest.fixture
def counts(tokenizer):
    """Every type has a count of its own; the last type is the most frequent."""
    return torch.arange(tokenizer.get_vocab_size())


# --- random text ------------------------------------------------------------------------------


def test_the_second_copy_is_the_first(texts):
    assert texts.shape == (5, 1 + 2 * HALF)
    assert texts[:, 0].tolist() == [0] * 5
    assert torch.equal(texts[:, 1 : HALF + 1], texts[:, HALF + 1 :])
    assert all(len(set(row)) == HALF + 1 for row in texts.tolist())
    assert len({tuple(row) for row in texts.tolist()}) == 5


def test_the_control_has_no_token_twice(fresh):
    assert fresh.shape == (5, 1 + 2 * HALF)
    assert all(len(set(row)) == 1 + 2 * HALF for row in fresh.tolist())


def test_only_allowed_tokens_are_drawn():
    allowed = torch.tensor([0, 3, 5, 8, 9])
    drawn = induction.repeated(20, 4, 10, training.generator(1), allowed)
    assert set(drawn[:, 1:].flatten().tolist()) == {3, 5, 8, 9}


def test_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match="needs 10 different tokens and there are 7"):
        induction.unrepeated(8, 5, 1, training.generator(0))


def test_whole_words_are_words_that_are_one_token(tokenizer):
    found = [tokenizer.id_to_token(i) for i in induction.whole_words(tokenizer).tolist()]
    assert {"king", "house", "the", "January"} <= {*found}
    assert all(word.isalpha() and tokenizer.encode(word).tokens == [word] for word in found)


def test_a_perfect_copier_gains_the_logarithm_of_the_vocabulary(copier, texts):
    gain = induction.gain(copier, texts)
    assert gain.value == pytest.approx(math.log(copier.n_types))
    assert float(gain.second[0]) == pytest.approx(math.log(copier.n_types))


def test_a_copier_gains_nothing_where_nothing_repeats(copier, fresh):
    assert induction.gain(copier, fresh).value == pytest.approx(0.0, abs=1e-5)


def test_an_even_row_is_refused(copier, texts):
    with pytest.raises(ValueError, match="rows of 14 tokens"):
        induction.gain(copier, texts[:, :-1])


# --- heads ------------------------------------------------------------------------------------


def test_scores_are_attention_at_the_offsets():
    pattern = torch.rand(3, 2, 1 + 2 * HALF, 1 + 2 * HALF, generator=training.generator(0))
    scores = induction.pattern_scores(pattern, HALF)
    offsets = {"induction": HALF - 1, "previous_token": 1, "duplicate": HALF}
    queries = range(HALF + 1, 2 * HALF + 1)
    for head in range(2):
        for name, offset in offsets.items():
            seen = [float(pattern[b, head, q, q - offset]) for b in range(3) for q in queries]
            assert float(getattr(scores, name)[head]) == pytest.approx(sum(seen) / len(seen))
        seen = [float(pattern[b, head, q, 0]) for b in range(3) for q in queries]
        assert float(scores.first[head]) == pytest.approx(sum(seen) / len(seen))


def test_head_scores_do_not_depend_on_the_batch(tiny, texts):
    _, cache = tiny.run_with_cache(texts)
    scores = induction.head_scores(tiny, texts, at_once=2)
    for layer in range(2):
        whole = induction.pattern_scores(cache[f"blocks.{layer}.attn.hook_pattern"], HALF)
        torch.testing.assert_close(scores.induction[layer], whole.induction)
        torch.testing.assert_close(scores.first[layer], whole.first)


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_other_heads_are_in_the_same_layers(seed):
    heads = [(1, 0), (1, 2), (3, 1)]
    others = induction.other_heads(heads, 4, 4, training.generator(seed))
    assert sorted(layer for layer, _ in others) == [1, 1, 3]
    assert len({*others, *heads}) == 6


def test_other_heads_come_from_elsewhere_where_a_layer_has_no_more():
    others = induction.other_heads([(0, 0), (0, 1)], 2, 2, training.generator(0))
    assert sorted(others) == [(1, 0), (1, 1)]
    with pytest.raises(ValueError, match="3 of 4 heads leave 1 others"):
        induction.other_heads([(0, 0), (0, 1), (1, 0)], 2, 2, training.generator(0))


# --- real text --------------------------------------------------------------------------------

WINDOWS = st.lists(
    st.lists(st.integers(1, 6), min_size=14, max_size=14).map(lambda row: [0, *row]),
    min_size=1,
    max_size=3,
).map(torch.tensor)


@given(windows=WINDOWS)
@settings(max_examples=50, deadline=None)
def test_classes_are_those_of_a_loop(windows):
    found = induction.classify(windows)
    for row, text in enumerate(windows.tolist()):
        for t in range(1, len(text)):
            pairs = [(text[s - 1], text[s]) for s in range(1, t)]
            seen_pair, seen_word = (text[t - 1], text[t]) in pairs, text[t] in text[:t]
            name = "seen pair" if seen_pair else "seen word" if seen_word else "new word"
            assert induction.CLASSES[int(found[row, t - 1])] == name


@given(windows=WINDOWS)
@settings(max_examples=25, deadline=None)
def test_what_is_replaced_is_the_pair_and_in_the_control_never_the_pair(windows):
    counts = torch.tensor([0, 5, 3, 9, 1, 2, 8])
    for row, text in enumerate(windows.tolist()):
        for t in range(1, len(text)):
            repeat = induction.find_repeat(windows, row, t, counts)
            pair = (text[t - 1], text[t])
            seconds = [s for s in range(1, t) if (text[s - 1], text[s]) == pair]
            if repeat is None:
                continue
            assert list(repeat.seconds) == seconds
            assert t - 1 not in repeat.seconds
            assert len({*repeat.others}) == len(repeat.others) == len(seconds)
            for place in repeat.others:
                assert 1 <= place <= t - 2
                assert text[place] not in pair
                assert min(abs(place - s) for s in seconds) >= 3


def test_a_pair_with_other_tokens_around_is_found():
    windows = torch.tensor([[0, 6, 1, 2, 3, 4, 5, 3, 1, 2]])
    counts = torch.tensor([0, 5, 7, 1, 1, 9, 6])
    assert induction.find_repeat(windows, 0, 9, counts) == induction.Repeat(0, 9, (3,), (6,))
    assert induction.find_repeat(windows[:, [0, *range(2, 10)]], 0, 8, counts) is None


@pytest.mark.parametrize(
    "text",
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 2],  # no pair
        [0, 3, 4, 5, 6, 7, 1, 1, 1],  # a doubled word
        [0, 3, 4, 5, 6, 1, 2, 1, 2],  # right before
        [0, 1, 2, 1, 2, 5, 6, 1, 2],  # twice in a row
    ],
)
def test_no_repeat_without_a_pair_or_of_one_that_touches(text):
    windows = torch.tensor([text])
    assert induction.find_repeat(windows, 0, 8, torch.arange(9)) is None


def test_rank_one_is_the_most_frequent():
    assert induction.ranks(torch.tensor([3, 9, 1, 3])).tolist() == [2, 1, 4, 3]


def test_a_substitute_is_a_new_word_of_like_frequency():
    words, counts = torch.arange(1000).flip(0), torch.arange(1000)
    row = torch.tensor([0, 300, 310, 600, 610])
    for seed in range(20):
        changed = induction.substitute(row, [1, 3], words, counts, training.generator(seed))
        assert changed[[0, 2, 4]].tolist() == [0, 310, 610]
        assert not {*changed[[1, 3]].tolist()} & {*row.tolist()}
        assert abs(int(changed[1]) - 300) <= 52
        assert abs(int(changed[3]) - 600) <= 52


def test_each_version_loses_what_it_says(tokenizer, texts, counts):
    words = induction.whole_words(tokenizer)
    repeats = induction.sample_repeats(texts, counts, 12, training.generator(0), words)
    assert len(repeats) == 12
    for places, name in zip(
        induction._places(repeats),
        ("seen pair", "new word", "seen word", *["seen pair"] * 3),
        strict=True,
    ):
        for repeat, where in zip(repeats, places, strict=True):
            row = texts[repeat.window]
            row = induction.substitute(row, where, words, counts, training.generator(0))
            number = int(induction.classify(row[None])[0, repeat.posn - 1])
            assert induction.CLASSES[number] == name


def test_the_loss_at_a_place_is_that_of_the_whole_window(tiny, texts):
    posn = torch.tensor([9, 2, 14, 1, 7])
    whole = score.token_losses(tiny, texts)
    expected = torch.stack([whole[row, t - 1] for row, t in enumerate(posn.tolist())])
    found = induction.losses_at(tiny, texts, posn, at_once=2)
    torch.testing.assert_close(found, expected)


def test_a_copier_needs_the_pair_and_nothing_else(tokenizer, texts, counts):
    copier = Copier(tokenizer, sure=20.0)
    found = induction.counterfactual_gain(copier, texts, counts, 12, training.generator(0))
    assert found.gain("second token replaced") == pytest.approx(20.0, abs=1e-3)
    assert found.gain("first token replaced") == pytest.approx(math.log(copier.n_types), abs=1e-3)
    assert found.gain("unrelated token replaced") == found.gain("next token replaced") == 0.0
    assert found.distance("second token replaced") == HALF
    assert found.distance("first token replaced") == HALF + 1


def test_only_wanted_targets_are_drawn(texts, counts):
    wanted = texts[0, 1:5]
    repeats = induction.sample_repeats(texts, counts, 99, training.generator(0), wanted)
    assert repeats
    assert {int(texts[repeat.window, repeat.posn]) for repeat in repeats} <= {*wanted.tolist()}


def test_gains_by_group_average_to_the_whole(tokenizer, texts, counts):
    copier = Copier(tokenizer, sure=20.0)
    found = induction.counterfactual_gain(copier, texts, counts, 12, training.generator(0))
    groups = [f"book {i % 2}" for i in range(len(texts))]
    gains = found.by_group(groups, "first token replaced")
    own = [groups[repeat.window] for repeat in found.repeats]
    mean = sum(gains[name] for name in own) / len(own)
    assert mean == pytest.approx(found.gain("first token replaced"))


def test_text_without_repeats_is_refused(copier, fresh, counts):
    with pytest.raises(ValueError, match="no pair is seen twice in these 5 windows"):
        induction.counterfactual_gain(copier, fresh, counts, 3, training.generator(0))


# --- the table --------------------------------------------------------------------------------


def _rows(model, texts, counts):
    sizes = {"passages": 4, "draws": 2, "count": 6, "rare": 5}
    books = [f"book {i % 2}" for i in range(len(texts))]
    return induction.evaluation_rows(model, texts, books, counts.numpy(), "tiny", **sizes)


def test_the_table_is_complete_and_comes_out_the_same_twice(tiny, texts, counts):
    rows = _rows(tiny, texts, counts)
    assert rows == _rows(tiny, texts, counts)
    assert all(list(row) == ["model", "quantity", "place", "kind", "value"] for row in rows)
    assert all(math.isfinite(row["value"]) for row in rows)
    kinds = {(row["quantity"], row["kind"]) for row in rows}
    assert {("gain", "repeated"), ("gain", "unrepeated"), ("gain", "permuted")} <= kinds
    assert ("counterfactual gain, all", "book 1") in kinds
    assert len([row for row in rows if row["quantity"] == "attention, repeated"]) == 4 * 4


def test_the_matching_heads_and_as_many_others_are_left_out(tiny, texts, counts, monkeypatch):
    monkeypatch.setattr(induction, "MATCHING", 1)
    rows = _rows(tiny, texts, counts)

    def left(kind):
        quantity = f"counterfactual gain, all, without {kind}"
        return [row["kind"] for row in rows if row["quantity"] == quantity]

    size = len(induction.VERSIONS) - 1
    assert len({*left("matching heads")}) == 1
    assert len(left("matching heads")) == size
    assert len(left("other heads")) == 2 * size
    assert not {*left("other heads")} & {*left("matching heads")}


def test_attention_is_read_right_before_the_target(tiny, texts):
    posn, places = torch.tensor([9, 4, 14]), [(3,), (1, 2), (5,)]
    found = induction.attention_before(tiny, texts[:3], posn, places, at_once=2)
    expected = torch.zeros(2, 2)
    for row, (target, looked) in enumerate(zip(posn.tolist(), places, strict=True)):
        _, cache = tiny.run_with_cache(texts[row : row + 1, :target])
        for layer in range(2):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0]
            expected[layer] += sum(pattern[:, -1, place] for place in looked).detach()
    torch.testing.assert_close(found, expected / 3)


def test_a_passage_is_said_twice_and_the_control_says_another(texts):
    found = induction.said_twice(texts, 3, 4)
    twice, other = found["real text twice"], found["real text, then another"]
    assert torch.equal(twice[:, 1:5], twice[:, 5:])
    assert torch.equal(other[:, :5], twice[:, :5])
    assert torch.equal(other[1, 5:], twice[0, 1:5])
    with pytest.raises(ValueError, match="do not give 9 passages of 4"):
        induction.said_twice(texts, 9, 4)


def test_permuted_texts_have_the_same_words_in_both_halves_in_another_order():
    generator = training.generator(0)
    tokens = induction.repeated(500, 12, 4, generator)
    mixed = induction.permuted(tokens, generator)
    assert torch.equal(mixed[:, :13], tokens[:, :13])
    assert torch.equal(mixed[:, 13:].sort(1).values, tokens[:, 13:].sort(1).values)
    assert not torch.equal(mixed, tokens)
