"""From a folder of books to autoencoders and the table, with a small model and small books."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook.sae import activations, real
from mechbook.sae.real import RealConfig, compared, gather, reader_of, rows_of, score, train_on
from mechbook.sae.training import TrainingConfig

CONFIG = RealConfig(
    place="blocks.0.hook_resid_post", windows=6, d_sae=20, k=3, batch=8, held_out=4, scored=3,
    how=TrainingConfig(steps=5, measure_every=5),
)  # fmt: skip


@pytest.fixture(scope="module")
def found(small_model):
    draw = torch.Generator().manual_seed(1)
    windows = torch.randint(1, small_model.cfg.d_vocab, (14, 10), generator=draw)
    windows[:, 0] = small_model.tokenizer.bos_token_id
    return gather(small_model, windows[:6], windows[6:], CONFIG)


def test_activations_are_scaled_and_the_last_token_is_only_predicted(found, small_model):
    assert found.train.shape == (6 * 8, 16)
    assert found.held_out.shape == (8 * 8, 16)
    raw = activations.collect(small_model, found.windows[:, :-1], CONFIG.place)
    torch.testing.assert_close(found.held_out, raw * found.scale)
    assert float(found.train.float().norm(dim=-1).mean()) == pytest.approx(4, rel=0.01)


def test_the_densities_are_those_of_the_held_out_text(found):
    trained = train_on(found, "topk", CONFIG)
    reader = reader_of(trained, found, CONFIG)
    with torch.no_grad():
        wanted = (reader.sae.encode(found.held_out) != 0).float().mean(0)
    torch.testing.assert_close(reader.density, wanted)


def test_a_perfect_reconstruction_scores_one_and_the_mean_zero(found):
    ablated = real.ablations(found, CONFIG)
    perfect = score(found, lambda h: h, CONFIG, ablated)
    assert perfect["explained"] == pytest.approx(1)
    assert perfect["against mean"] == pytest.approx(1)
    mean = score(found, lambda h: found.mean.expand_as(h), CONFIG, ablated)
    assert mean["against mean"] == pytest.approx(0, abs=1e-4)
    assert mean["loss"] == pytest.approx(ablated.mean)


def test_the_table_has_variants_baselines_and_units(found):
    rows = rows_of("trained", found, CONFIG, (0, 1), scored=True)
    table = dict(zip(real.COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))
    assert len(compared(table, "topk", "explained")) == 2
    assert len(compared(table, "PCA, the best of each", "against mean")) == 1
    assert compared(table, "random directions", "token share").shape == (1,)
    assert compared(table, "topk", "L0")[0] <= 3
    with pytest.raises(ValueError, match="methods: "):
        compared(table, "topk", "nothing")


def test_an_untrained_model_has_no_loss_to_recover(found):
    rows = rows_of("untrained", found, replace(CONFIG), (0,), scored=False)
    assert "loss" not in {row[3] for row in rows}


@pytest.fixture
def folder(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split in ("train", "validation"):
        books = [f"{split} {i}. " + "The sea was calm. " * 1500 for i in range(3)]
        columns = {"title": ["a", "b", "c"], "author": ["x"] * 3, "text": books}
        pq.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    return tmp_path


def test_books_are_read_from_a_folder(folder, small_model):
    tokenizer = small_model.tokenizer.backend_tokenizer
    config = replace(CONFIG, every=2)
    windows = real.training_windows(tokenizer, str(folder), 12, config)
    assert windows.shape == (6, 13)
    assert real.held_out_windows(tokenizer, str(folder), 12, 5).shape == (5, 13)


def test_no_seed_is_refused(folder):
    with pytest.raises(ValueError, match="seeds is 0"):
        real.make_real_seeds(str(folder), 0)
