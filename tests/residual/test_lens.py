import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.residual import decomposition, lens
from mechbook.residual.model import (
    KINDS,
    Language,
    ModelConfig,
    build,
    favorites,
    run,
    sample,
    words,
)

LANGUAGE = Language(n_words=12, shortest=3, longest=5, length=14)


@pytest.fixture(scope="module")
def model():
    return build(LANGUAGE, ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=12))


@pytest.fixture(scope="module")
def seen(model):
    return run(model, LANGUAGE, sample(LANGUAGE, 9, training.generator(3)))


def test_depths_go_from_the_embedding_to_the_end(seen):
    depths = lens.stream(seen.model, seen.cache)
    assert depths.labels == ("embedding", "attention 0", "MLP 0", "attention 1", "MLP 1")
    tokens = seen.texts.tokens[:, :-1]
    start = seen.model.W_E[tokens] + seen.model.W_pos[: tokens.shape[1]]
    torch.testing.assert_close(depths.values[0], start)
    torch.testing.assert_close(
        depths.values[-1], decomposition.final_stream(seen.model, seen.cache)
    )


def test_the_last_depth_is_the_model_itself(seen):
    table = lens.logit_lens(seen)
    best = seen.logits.argmax(-1) == seen.texts.tokens[:, 1:]
    for column, mask in enumerate(seen.kinds.values()):
        assert float(table.accuracy[-1, column]) == pytest.approx(float(best[mask].float().mean()))
    assert float(table.divergence[-1].abs().max()) < 1e-5


def test_the_scale_changes_the_loss_but_no_best_guess(seen):
    own, frozen = lens.logit_lens(seen), lens.logit_lens(seen, frozen=True)
    torch.testing.assert_close(own.accuracy, frozen.accuracy)
    assert float((own.loss - frozen.loss).abs().max()) > 1e-3


def test_a_table_of_perfect_guesses(seen):
    perfect = 50 * torch.nn.functional.one_hot(seen.texts.tokens[:, 1:], 12).float()
    table = lens.lens_table(seen, ("oracle",), [perfect])
    assert table.accuracy.tolist() == [[1.0, 1.0, 1.0]]
    assert table.habit[0, 1:].tolist() == [1.0, 0.0]
    assert float(table.loss.max()) < 1e-6


@given(st.integers(0, 30))
@settings(deadline=None)
def test_a_probe_finds_a_linear_code(seed):
    generator = torch.Generator().manual_seed(seed)
    code = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q[:5]
    target = torch.arange(50) % 5
    weight, bias = lens.fit_probe(code[target], target, 5)
    assert torch.equal((code[target] @ weight + bias).argmax(-1), target)


def test_a_probe_reads_the_habit_from_an_untrained_embedding(model, seen):
    teacher = run(model, LANGUAGE, sample(LANGUAGE, 300, training.generator(8)))
    probed = lens.probe_lens(seen, teacher, depths=["embedding"])
    shuffled = lens.probe_lens(seen, teacher, shuffled=True, depths=["embedding"])
    assert probed.labels == ("embedding",)
    assert float(probed.habit[0, 0]) > 0.8 > 0.4 > float(shuffled.habit[0, 0])


def test_a_grid_shows_the_text_it_was_asked_for(seen):
    grid = lens.grid(seen, text=2, first=4, last=9)
    tokens = [words(LANGUAGE)[token] for token in seen.texts.tokens[2].tolist()]
    assert list(grid.read) == tokens[4:9]
    assert list(grid.answers) == tokens[5:10]
    expected = seen.logits[2, 4:9].softmax(-1)[range(5), seen.texts.tokens[2, 5:10]]
    torch.testing.assert_close(grid.chance[-1], expected)


def test_kinds_of_the_table_are_the_languages(seen):
    assert lens.logit_lens(seen).kinds == KINDS
    assert len(favorites(LANGUAGE)) == LANGUAGE.n_words


@pytest.mark.parametrize(("text", "first", "last"), [(9, 0, 3), (0, 3, 3), (0, 0, 14), (-1, 0, 2)])
def test_a_grid_outside_the_texts_is_refused(seen, text, first, last):
    with pytest.raises(ValueError, match="positions 0 to 13"):
        lens.grid(seen, text, first, last)


def test_a_probe_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one target each"):
        lens.fit_probe(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), 4)
    with pytest.raises(ValueError, match="0 to 3"):
        lens.fit_probe(torch.zeros(1, 2), torch.tensor([4]), 4)


def test_an_unknown_depth_is_named(seen):
    with pytest.raises(ValueError, match="MLP 7"):
        lens.probe_lens(seen, seen, depths=["MLP 7"])
