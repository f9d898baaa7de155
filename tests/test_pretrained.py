"""Models are found on this machine, and never sought elsewhere unasked."""

from __future__ import annotations

import json

import huggingface_hub
import pytest

from mechbook import pretrained


@pytest.fixture
def half_a_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return tmp_path


def test_a_local_folder_is_found(half_a_model):
    assert pretrained.find(str(half_a_model)) == half_a_model


def test_what_the_cache_holds_is_found(half_a_model, monkeypatch):
    cached = str(half_a_model / "config.json")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: cached)
    assert pretrained.find("gpt2") == half_a_model


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no/such/folder", ""])
def test_what_is_not_here_is_not_found(name):
    assert pretrained.find(name) is None


def test_a_missing_model_names_the_module_that_fetches_it():
    with pytest.raises(ValueError, match=r"`python -m mechbook\.x nobody/none`"):
        pretrained.load("nobody/none", module="mechbook.x")


def test_half_a_model_is_one_line_with_the_way_out(half_a_model):
    with pytest.raises(
        ValueError, match=r"not whole on this machine.*mechbook\.pretrained"
    ) as caught:
        pretrained.load(str(half_a_model))
    assert "\n" not in str(caught.value)


def test_fetching_takes_the_weights_and_the_tokenizer(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)))
    assert pretrained.main(["gpt2"]) == 0
    ((name,), options), *_ = asked
    assert name == "gpt2"
    assert "*.safetensors" in options["allow_patterns"]
    assert "fetching gpt2" in capsys.readouterr().out


def test_fetching_without_a_network_is_one_line(monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError("no route\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert pretrained.main(["gpt2"]) == 1
    assert capsys.readouterr().err == "gpt2 could not be fetched: no route\n"
