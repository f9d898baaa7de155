"""The lens on a pretrained model: on a tiny GPT-2 made here, and in one line where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mechbook.residual import full_scale


@pytest.fixture(scope="module")
def tiny(tiny_gpt2: Callable[..., Path]) -> Path:
    """A GPT-2 of two layers with random weights and six words, saved as Hugging Face saves it."""
    return tiny_gpt2(["<|endoftext|>", "the", "city", "of", "Paris", "Rome"])


def test_the_last_depth_is_the_models_own_answer(tiny: Path) -> None:
    model = full_scale.load(str(tiny))
    logits = full_scale.early_logits(model, "the city of")
    assert logits.shape == (3, 6)
    torch.testing.assert_close(logits[-1], model("the city of")[0, -1], atol=1e-5, rtol=1e-4)


def test_the_report_has_a_line_for_each_depth(tiny: Path) -> None:
    lines = full_scale.lens_report(str(tiny), "the city of", "Paris").splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [f"after  {k} layers" for k in range(3)]


def test_a_missing_model_is_one_line_with_the_way_out() -> None:
    report = full_scale.lens_report("nobody/no-such-model", "the", "Paris")
    assert report.startswith("Skipped: nobody/no-such-model is not on this machine")
    assert "python -m mechbook.residual.full_scale nobody/no-such-model" in report
    assert len(report.splitlines()) == 1
