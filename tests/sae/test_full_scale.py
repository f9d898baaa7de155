"""At full scale: one line where nothing is at hand, and the measurements on a small model."""

import pytest
import torch

from mechbook.sae import full_scale, saelens


def test_what_is_missing_is_one_line(tmp_path, reader):
    line = full_scale.report("gpt2", tmp_path / "nothing")
    assert line.startswith("Skipped: there is no folder nothing")
    assert "\n" not in line
    folder = saelens.save(reader.sae, tmp_path / "sae")
    line = full_scale.report("no-such-model-anywhere", folder)
    assert line.startswith("Skipped: ")
    assert "\n" not in line


def test_a_perfect_stand_in_recovers_everything(small_model, texts):
    class Perfect(torch.nn.Module):
        class config:
            d_sae = 16

        def encode(self, h):
            return h

        def decode(self, z):
            return z

        def forward(self, h):
            return h

    lines = full_scale.measure(small_model, Perfect(), texts, "blocks.0.hook_resid_post")
    assert "1.000 explained" in lines[0]
    assert "recovered 1.000" in lines[1]


def test_texts_become_rows_and_short_ones_are_refused(small_model):
    found = full_scale.windows(small_model, ["The sea was calm. " * 9, "The sea."], length=8)
    assert found.shape == (1, 9)
    with pytest.raises(ValueError, match="none of 1 texts has 8 tokens"):
        full_scale.windows(small_model, ["The sea."], length=8)
