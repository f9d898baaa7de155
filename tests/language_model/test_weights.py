"""The shipped model: whole, and refused in one line where it is not."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from mechbook import artifacts
from mechbook.artifacts import ArtifactError, Card
from mechbook.language_model import corpus, score, weights
from mechbook.language_model import tokenizer as tokenizers
from mechbook.language_model.model import ModelConfig, build, parameters
from mechbook.training import History

TINY = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16)
TEXT = "The king said to the queen: “I don't know.”\n\nShe saw the old house."


def card(**inputs):
    return Card("a test", "tests:made", "none", [0], 1.0, inputs=inputs, commit="0" * 40)


def save_tokenizer(tokenizer, data):
    content = json.loads(tokenizer.to_str())
    artifacts.save_json(weights.TOKENIZER, content, card=card(), data=data)


def save_tensors(tensors, data):
    made_with = artifacts.checksum(weights.TOKENIZER, data=data)
    artifacts.save_tensors(weights.NAME, tensors, card=card(tokenizer=made_with), data=data)


@pytest.fixture
def data(tokenizer, tmp_path, monkeypatch):
    """A folder with a small untrained model and its tokenizer, which `load` takes for the book's."""
    monkeypatch.setattr(weights, "ModelConfig", lambda: TINY)
    save_tokenizer(tokenizer, tmp_path)
    save_tensors({n: t.half() for n, t in own(tokenizer).items()}, tmp_path)
    return tmp_path


def own(tokenizer):
    return parameters(build(TINY, tokenizer))


def refusal(data):
    with pytest.raises(ArtifactError) as raised:
        weights.load(data=data)
    text = str(raised.value)
    assert "\n" not in text
    assert str(data) not in text
    return text


# --- what ships with the book ---


SHIPPED = (artifacts.DATA / "weights" / f"{weights.NAME}.safetensors").exists()


@pytest.fixture(scope="module")
def shipped():
    if not SHIPPED:
        pytest.skip("the language model's weights are not made yet")
    return weights.load()


def test_the_shipped_model_reads_better_than_a_guess(shipped):
    read = score.read(shipped, TEXT)
    assert math.isfinite(read.per_token)
    assert read.per_token < math.log(shipped.cfg.d_vocab)


def test_the_shipped_model_is_in_32_bits_on_the_cpu_and_does_not_drop_out(shipped):
    kinds = {(p.dtype, p.device.type) for p in shipped.parameters()}
    assert kinds == {(torch.float32, "cpu")}
    assert not shipped.training


def test_the_shipped_model_has_the_sizes_that_the_book_says(shipped):
    config = ModelConfig()
    assert shipped.cfg.n_layers == config.n_layers
    assert shipped.W_E.shape == (tokenizers.TokenizerConfig().n_types, config.d_model)
    assert shipped.cfg.n_ctx == config.n_ctx


# --- there and back ---


def test_loaded_weights_are_those_that_were_saved(data, tokenizer):
    loaded, saved = parameters(weights.load(data=data)), own(tokenizer)
    for name, tensor in saved.items():
        assert torch.equal(loaded[name], tensor.half().float())


def test_the_loaded_tokenizer_is_the_one_that_was_saved(data, tokenizer):
    loaded = weights.load_tokenizer(data=data)
    assert loaded.encode(TEXT).ids == tokenizer.encode(TEXT).ids


# --- what is refused ---


def test_another_tokenizer_is_refused(data, tokenizer):
    tokenizer = tokenizers.train([TEXT], tokenizers.TokenizerConfig(1024, 60, 1))
    save_tokenizer(tokenizer, data)
    text = refusal(data)
    assert "language-model-tokenizer is not the tokenizer that language-model was" in text
    assert "python -m mechbook make language-model-tokenizer" in text


@pytest.mark.parametrize(
    "name", ["weights/language-model.safetensors", "settings/language-model-tokenizer.json"]
)
def test_a_damaged_file_is_named_with_the_way_out(data, name):
    content = bytearray((data / name).read_bytes())
    content[len(content) // 2] ^= 1
    (data / name).write_bytes(bytes(content))
    text = refusal(data)
    assert f"{name} is truncated or altered" in text
    assert "python -m mechbook make language-model" in text


@pytest.mark.parametrize(
    "name", ["weights/language-model.safetensors", "settings/language-model-tokenizer.json"]
)
def test_a_missing_file_is_named_with_the_way_out(data, name):
    (data / name).unlink()
    text = refusal(data)
    assert f"{name} is missing" in text
    assert "python -m mechbook make language-model" in text


def spoiled(tensors, how):
    name = next(n for n, t in tensors.items() if t.ndim == 2)
    match how:
        case "missing":
            del tensors[name]
        case "another shape":
            tensors[name] = tensors[name][:-1]
        case "not finite":
            tensors[name] = tensors[name].clone()
            tensors[name][0, 0] = float("nan")
        case "one too many":
            tensors["another"] = torch.zeros(2)
            name = "another"
    return name


@pytest.mark.parametrize("how", ["missing", "another shape", "not finite", "one too many"])
def test_weights_that_do_not_fit_are_named_with_the_way_out(data, tokenizer, how):
    tensors = own(tokenizer)
    name = spoiled(tensors, how)
    save_tensors(tensors, data)
    text = refusal(data)
    assert text.startswith("weights/language-model.safetensors: ")
    assert f" {name} " in text
    assert ("is damaged" in text or "are damaged" in text) == (how == "not finite")
    assert "`python -m mechbook make language-model` makes it again" in text


# --- recipes ---


def test_seconds_add_up_over_the_parts_of_a_run():
    since_start = np.array([1.0, 5.0, 9.0, 2.0, 6.0])
    history = History(np.arange(4), np.zeros(4), np.arange(5), {"seconds": since_start})
    assert weights.seconds(history).tolist() == [1.0, 5.0, 9.0, 11.0, 15.0]


def test_the_recipes_make_what_load_takes(tmp_path, monkeypatch):
    """Both recipes and the curve's, on two short books."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mechbook.language_model import train

    books, data = tmp_path / "books", tmp_path / "data"
    books.mkdir()
    for split, text in (("train", TEXT * 9), ("validation", TEXT * 3)):
        rows = {"title": [split], "author": ["A. Uthor"], "text": [text]}
        pq.write_table(pa.table(rows), books / f"{split}.parquet")
    shorter = train.TrainingConfig(batch=4, warmup=2, measure_every=3, measure_on=2)
    monkeypatch.setattr(weights, "ModelConfig", lambda: TINY)
    monkeypatch.setattr(weights.train, "TrainingConfig", lambda: shorter)
    monkeypatch.setattr(weights, "WORKSHOP", tmp_path / "workshop")
    for module, name in ((weights, "load_tokenizer"), (artifacts, "checksum")):
        monkeypatch.setattr(module, name, partial(getattr(module, name), data=data))

    content, facts = weights.make_tokenizer(str(books))
    assert [*facts["inputs"]] == ["train, A. Uthor"]
    made = Card(made_by="t:t", command="none", seconds=1.0, **facts)
    artifacts.save_json(weights.TOKENIZER, content, card=made, data=data)

    tensors, facts = weights.make_weights(str(books))
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    made = Card(made_by="t:t", command="none", **facts)
    artifacts.save_tensors(weights.NAME, tensors, card=made, data=data)
    model = weights.load(data=data)

    columns, facts = weights.make_curve(str(books))
    assert columns["step"][0] == 0
    assert len({len(column) for column in columns.values()}) == 1
    tokenizer = weights.load_tokenizer()
    encoded = corpus.encode(tokenizer, [TEXT * 3])
    held_out = corpus.windows(tokenizer, encoded, 16).evenly(2)
    last = float(score.token_losses(model, held_out).mean())
    assert columns["validation"][-1] == pytest.approx(last, rel=0.01)
