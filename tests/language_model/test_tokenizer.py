"""The tokenizer: what is one token, what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model import weights
from mechbook.language_model.tokenizer import END, TokenizerConfig

SMALL = TokenizerConfig(n_types=900, n_pieces=200, alphabet=1)


@pytest.fixture(scope="module")
def shipped():
    return weights.load_tokenizer()


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def letters_and_digits(text):
    return "".join(c for c in text if unicodedata.category(c)[0] in "LN")


# --- what is one token ---


@pytest.mark.parametrize("group", ["MONTHS", "WEEKDAYS", "NUMBERS", "PRONOUNS", "ANALOGIES"])
def test_words_that_later_chapters_look_at_are_one_token_each(shipped, group):
    words = getattr(tokenizers, group)
    assert [w for w in words if encode(shipped, w).tokens != [w]] == []


def test_numbers_and_pronouns_are_one_token_capitalized_too(shipped):
    words = [w.capitalize() for w in tokenizers.NUMBERS + tokenizers.PRONOUNS]
    assert [w for w in words if len(encode(shipped, w).ids) != 1] == []


def test_the_shipped_vocabulary_has_as_many_types_as_the_model_expects(shipped):
    assert shipped.get_vocab_size() == TokenizerConfig().n_types
    assert shipped.token_to_id(END) == 0


def test_a_word_comes_out_the_same_inside_a_sentence(shipped):
    tokens = encode(shipped, "On Monday, the king saw May.").tokens
    assert tokens == ["On", "Monday", ",", "the", "king", "saw", "May", "."]


@pytest.mark.parametrize("number", ["1914", "83927", "3000004"])
def test_a_rare_number_is_spelled_digit_by_digit(shipped, number):
    tokens = encode(shipped, number).tokens
    assert tokens == [number[0], *(f"##{digit}" for digit in number[1:])]


def test_no_piece_of_a_number_has_two_digits(shipped):
    pieces = [t.removeprefix("##") for t in shipped.get_vocab() if t.startswith("##")]
    assert [p for p in pieces if len(p) > 1 and any(map(str.isdigit, p))] == []


def test_a_contraction_is_a_word_and_its_ending(shipped):
    assert encode(shipped, "don't I'll").tokens == ["don", "'t", "I", "'ll"]


def test_a_blank_line_is_a_token(shipped):
    assert encode(shipped, "the king\n \n\nsaw").tokens == ["the", "king", "¶", "saw"]


# --- nothing is unknown ---


def test_what_is_in_no_type_is_spelled_in_bytes(shipped):
    spelled = encode(shipped, "日").tokens
    assert spelled == [f"<0x{byte:02X}>" for byte in "日".encode()]


@pytest.mark.parametrize("word", ["日本", "abc日本def", "é日x", "Ⅷ", "нет", "नमस्ते"])
def test_bytes_join_to_the_word_that_they_spell(shipped, word):
    assert shipped.decode(encode(shipped, word).ids) == unicodedata.normalize("NFC", word)


@given(st.text())
@example("<0x41> ##x [¶] \x00 \u2028 \ufeff")
@example('e_\u0301 日 本 ①½ \'tis ’’ "q" . . . --')
def test_any_text_is_encoded_and_keeps_its_letters_and_digits(shipped, text):
    ids = encode(shipped, text).ids
    assert all(0 <= i < shipped.get_vocab_size() for i in ids)
    wanted = letters_and_digits(unicodedata.normalize("NFC", text))
    assert letters_and_digits(shipped.decode(ids)) == wanted


@given(st.lists(st.sampled_from([*tokenizers.ALWAYS, ",", ".", "?", "—"]), max_size=20))
def test_encoding_what_was_decoded_gives_the_same_tokens(shipped, tokens):
    ids = [shipped.token_to_id(token) for token in tokens]
    assert encode(shipped, shipped.decode(ids)).ids == ids


@pytest.mark.parametrize(
    "text",
    [
        "The king said to the queen: “I don't know.”",
        "She saw (in May) the old house—and 1914 cows; was it so?",
        "“‘Tis he!” said she.\n\nThe rest is silence…",
        "A zymologist quizzically observed 27 okapis.",
    ],
)
def test_ordinary_text_comes_back_as_it_was(shipped, text):
    assert shipped.decode(encode(shipped, text).ids) == text


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("_word_ *and* #mark", "word and mark"),
        ("wide   and\nbroken", "wide and broken"),
        ("one -- two – three", "one—two—three"),
        ('"so . . . what"', "“so… what”"),
        ("日 本", "日本"),
    ],
)
def test_what_gets_lost_is_what_is_documented(shipped, text, back):
    assert shipped.decode(encode(shipped, text).ids) == back


# --- training ---


def rare_words():
    """Many words of equal counts, so that many pairs of letters are equally frequent."""
    draw = random.Random(0)
    return " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(3000))


def test_training_again_in_another_process_gives_the_same_tokenizer():
    here = tokenizers.train([rare_words()], SMALL).to_str().encode()
    there = (
        "import random; from mechbook.language_model import tokenizer as t; draw = random.Random(0)"
        "; text = ' '.join(''.join(draw.choices('abcdefghij', k=6)) for _ in range(3000))"
        "; print(t.train([text], t.TokenizerConfig(900, 200, 1)).to_str(), end='')"
    )
    for _ in range(2):
        made = subprocess.run([sys.executable, "-c", there], capture_output=True, check=True)
        assert hashlib.sha256(made.stdout).digest() == hashlib.sha256(here).digest()


def test_the_most_frequent_words_are_whole_and_the_rare_in_pieces():
    text = "frequentword " * 50 + rare_words()
    tokenizer = tokenizers.train([text], TokenizerConfig(n_types=700, n_pieces=50, alphabet=1))
    assert encode(tokenizer, "frequentword").tokens == ["frequentword"]
    rarest = text.split()[-1]
    assert len(encode(tokenizer, rarest).ids) > 1
    assert tokenizer.get_vocab_size() == 700


def test_words_are_counted_as_the_tokenizer_cuts_them():
    counts = tokenizers.count_words(["The king, the king's", "cow"])
    assert counts == {"The": 1, "king": 2, ",": 1, "the": 1, "'s": 1, "cow": 1}


@pytest.mark.parametrize("texts", [[], [""], ["  \n", "\t"]])
def test_text_without_words_is_refused(texts):
    with pytest.raises(ValueError, match="no word in the text"):
        tokenizers.train(texts)


def test_too_few_types_for_the_words_that_are_always_there_say_how_many_are_needed():
    with pytest.raises(ValueError, match=r"n_types is 300.*give at least \d+"):
        tokenizers.train(["a text"], TokenizerConfig(n_types=300, n_pieces=10))


def test_letters_never_crowd_out_the_words_that_are_always_there():
    least = 270 + 1 + 19 + len(tokenizers.ALWAYS)
    with pytest.raises(ValueError, match="crowd out"):
        tokenizers.train([rare_words()], TokenizerConfig(least, n_pieces=1, alphabet=1))


@pytest.mark.parametrize("sizes", [{"n_pieces": 0}, {"alphabet": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="give 1 or more"):
        TokenizerConfig(**sizes)


# --- as Hugging Face's models expect it ---


def test_wrapped_it_puts_the_mark_first(tokenizer):
    wrapped = tokenizers.wrap(tokenizer, 16)
    ids = wrapped("the king")["input_ids"]
    assert ids == [wrapped.bos_token_id, *encode(tokenizer, "the king").ids]
    assert wrapped.convert_ids_to_tokens(ids[0]) == END
    assert wrapped.decode(ids, skip_special_tokens=True) == "the king"
