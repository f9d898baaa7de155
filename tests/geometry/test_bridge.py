import numpy as np
import pytest
import torch

from mechbook.geometry import bridge
from mechbook.geometry.counts import MONTHS

FILLER = "Let s do some calendar math months from is . ' Let's".split()  # noqa: SIM905


def save(folder, words, **sizes):
    """A GPT-2 of two layers with random weights and a tokenizer of words, as Hugging Face saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = dict.fromkeys(("bos_token", "eos_token", "unk_token"), words[0])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 16} | sizes
    config = GPT2Config(**shape, vocab_size=len(vocabulary), bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    words = ["<end>", *FILLER, *bridge.NUMBERS, *MONTHS]
    return save(tmp_path_factory.mktemp("tiny"), words)


@pytest.fixture(scope="module")
def model(folder):
    from mechbook import pretrained

    return pretrained.load(str(folder))


def test_there_are_144_prompts_and_the_month_is_where_it_is_said_to_be(model):
    short = "{number} months from {month} is"
    found = bridge.prompts(model, short)
    assert len(found.rows) == 144
    for row, place, item in zip(found.rows, found.month.tolist(), found.item.tolist(), strict=True):
        assert model.tokenizer.convert_ids_to_tokens(row[place]) == MONTHS[item]


def test_answers_are_the_months_own_tokens(model):
    found = bridge.prompts(model)
    assert model.tokenizer.convert_ids_to_tokens(found.answers.tolist()) == list(MONTHS)
    right = found.answer[(found.item == 10) & (found.offset == 3)]
    assert right.tolist() == [1]  # three months from November is February


def test_without_an_edit_the_models_own_answers_are_read(model):
    found = bridge.prompts(model)
    logits = model(torch.tensor(found.rows))[:, -1]
    assert torch.equal(bridge.said(model, found), logits[:, found.answers].argmax(-1))


def test_streams_are_read_at_both_sites(model):
    found = bridge.prompts(model)
    month = bridge.read(model, found, "item")
    again = bridge.streams.read(model, torch.tensor(found.rows[5:6]), int(found.month[5]))
    assert torch.allclose(month[:, 5], again[:, 0], atol=1e-5)
    last = bridge.read(model, found, "final")
    assert last.shape == (3, 144, 32)
    assert float((last[0] - last[0, 0]).abs().max()) < 1e-5  # the same token in every prompt


def test_the_table_has_every_site_depth_and_kind(model):
    table = bridge.measure(model, orders=20, shifts=(1,))
    assert table["total"][table["quantity"] == "accuracy"].tolist() == [144]
    flips = np.char.startswith(table["quantity"].astype(str), "flips")
    assert flips.sum() == 2 * 3 * len(bridge.KINDS)
    assert (table["total"][flips] == 144).all()
    assert ((table["value"][flips] >= 0) & (table["value"][flips] <= 1)).all()
    circle = (table["quantity"] == "first harmonic") & (table["site"] == "item")
    assert circle.sum() == 3


def test_the_table_goes_to_a_file_and_back(model, tmp_path):
    table = bridge.measure(model, orders=10, shifts=(1,))
    bridge.write(table, tmp_path / "deep" / "months.parquet", "tiny")
    back = bridge.results(tmp_path / "deep" / "months.parquet")
    assert set(back["model"]) == {"tiny"}
    assert np.array_equal(back["value"], table["value"])
    depths, panels = bridge.by_depth(back)
    last = (table["site"] == "final") & (table["depth"] == 2) & (table["quantity"] == "flips: add")
    assert (depths.tolist(), panels["final"]["add"][2]) == ([0, 1, 2], table["value"][last])
    assert bridge.results(tmp_path / "none.parquet") is None
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(ValueError, match=r"bad\.parquet is no table"):
        bridge.results(tmp_path / "bad.parquet")


def test_the_command_writes_the_file(folder, tmp_path, capsys, monkeypatch):
    quick = bridge.measure
    monkeypatch.setattr(bridge, "measure", lambda model: quick(model, orders=5, shifts=(1,)))
    out = tmp_path / "months.parquet"
    assert bridge.main(["--model", str(folder), "--out", str(out)]) == 0
    assert out.is_file()
    assert "right answers among the twelve months" in capsys.readouterr().out


def test_a_missing_model_is_one_line(capsys, tmp_path):
    assert bridge.report("no/such-model").startswith(
        "Skipped: no/such-model is not on this machine"
    )
    assert bridge.main(["--model", "no/such-model", "--out", str(tmp_path / "x")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_bad_input_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="needs"):
        bridge.prompts(model, "months from {month}")
    with pytest.raises(ValueError, match="no site"):
        bridge.read(model, bridge.prompts(model), "?")
    from mechbook import pretrained

    blind = pretrained.load(str(save(tmp_path, ["<end>", "Let", "is"], n_embd=8)))
    with pytest.raises(ValueError, match="same token"):
        bridge.prompts(blind, "{number} {month} is")
    with pytest.raises(ValueError, match="the model reads 16"):
        bridge.prompts(
            model, "Let Let Let Let Let Let Let Let Let Let Let {number} months from {month} is"
        )
