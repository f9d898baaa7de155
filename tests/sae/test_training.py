"""Training: as a loop written out, warm-ups, unit directions, dead latents, resampling, refusals."""

import pytest
import torch

from mechbook import training as ground
from mechbook.sae.resampling import drawn_by_loss, resample
from mechbook.sae.training import TrainingConfig, _Run, parameter, shuffled, train
from mechbook.sae.variants import SAEConfig, build

ROWS = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
CONFIG = SAEConfig(5, 12)


def quick(**config):
    return TrainingConfig(**({"steps": 6, "decay": 0.0, "window": 3} | config))


def test_training_is_the_loop_written_out():
    how = quick(warm_up=2, price_warm_up=4, decay=0.5)
    data = shuffled(ROWS, 16, [3])
    trained = train(CONFIG, how, data, [0.2], [3], progress=False)
    sae = build(CONFIG, 3)
    with torch.no_grad():
        sae.b_dec.copy_(data(0)[0].mean(0))
    optimizer = torch.optim.Adam(sae.parameters())
    for step in range(6):
        h = data(step)[0]
        rate = min(1, (step + 1) / 2) * min(1, (6 - step) / 3)
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        z = ((h - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
        error = h - z @ sae.W_dec - sae.b_dec
        loss = error.pow(2).sum() / 16 + 0.2 * min(1, step / 4) * z.sum() / 16
        assert trained.history.loss[step, 0] == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            sae.W_dec.grad -= (sae.W_dec.grad * sae.W_dec).sum(-1, keepdim=True) * sae.W_dec
            optimizer.step()
            sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(trained.sae().W_dec, sae.W_dec, atol=1e-4, rtol=1e-3)


def test_members_are_in_the_order_price_then_seed():
    data = shuffled(ROWS, 16, [0, 1], copies=2)
    both = train(CONFIG, quick(), data, [0.1, 0.4], [0, 1], progress=False)
    alone = train(CONFIG, quick(), shuffled(ROWS, 16, [1]), [0.4], [1], progress=False)
    torch.testing.assert_close(both.sae(1, 1).W_enc, alone.sae().W_enc, atol=1e-5, rtol=1e-4)
    assert both.tensor("W_dec").shape == (2, 2, 12, 5)


def test_directions_keep_length_one_unless_they_are_free():
    lengths = {}
    for decoder in ("unit", "free"):
        config = SAEConfig(5, 12, decoder=decoder)
        trained = train(config, quick(), shuffled(ROWS, 16, [0]), [0.5], progress=False)
        lengths[decoder] = trained.tensor("W_dec").norm(dim=-1)
    assert float((lengths["unit"] - 1).abs().max()) < 1e-5
    assert float((lengths["free"] - 1).abs().max()) > 1e-4


def test_bare_l1_drives_free_directions_to_grow():
    """The loophole: longer directions, smaller latents, the same reconstruction, less to pay."""
    config, how = SAEConfig(5, 12, decoder="free"), quick(steps=150, learning_rate=1e-2)
    grown = train(config, how, shuffled(ROWS, 16, [0]), [0.5], progress=False)
    weighted = train(
        SAEConfig(5, 12, decoder="weighted"), how, shuffled(ROWS, 16, [0]), [0.5], progress=False
    )
    mean = [float(t.tensor("W_dec").norm(dim=-1).mean()) for t in (grown, weighted)]
    assert mean[0] > 1.2 * mean[1]


def test_a_latent_is_dead_after_a_window_of_silence():
    run = _Run(CONFIG, quick(), shuffled(ROWS, 16, [0]), [(0.0, 0)])
    with torch.no_grad():
        parameter(run.ensemble, "b_enc")[0, :4] = -100.0
    for step in range(3):
        run.losses(step)
    silent = run.silent[0].tolist()
    assert silent[:4] == [3] * 4
    assert max(silent[4:]) < 3


@pytest.mark.parametrize("kind", ["simple", "bricken"])
def test_dead_latents_come_back(kind):
    def silence(run):
        with torch.no_grad():
            parameter(run.ensemble, "b_enc")[0, :6] = -100.0

    how = quick(steps=40, resample=kind, resample_every=10, window=5, encoder_scale=1.0)
    run = _Run(CONFIG, how, shuffled(ROWS, 16, [0]), [(0.0, 0)])
    silence(run)
    for step in range(10):
        run.losses(step)
    assert int((run.silent[0] >= 5).sum()) >= 6
    run.losses(10)
    run.losses(11)
    assert int((run.silent[0, :6] == 0).sum()) >= 4


def test_brickens_recipe_changes_only_dead_latents_and_forgets_them():
    run, (W_enc, W_dec, b_enc), optimizer = _stepped()
    dead = torch.zeros(1, 12, dtype=torch.bool)
    dead[0, [2, 7]] = True
    before = [t.detach().clone() for t in (W_enc, W_dec, b_enc)]
    b_dec = parameter(run.ensemble, "b_dec")[0].detach()
    how = TrainingConfig(resample="bricken")
    resample(run.ensemble, optimizer, dead, ROWS[None], torch.tensor([0.1]), how, [0], 5)
    live = ~dead[0]
    for old, new in zip(
        (before[0].mT, before[1], before[2]), (W_enc.mT, W_dec, b_enc), strict=True
    ):
        assert torch.equal(old[0, live], new[0, live])
    inputs = torch.nn.functional.normalize(ROWS - b_dec, dim=-1)
    for latent in (2, 7):
        assert (inputs @ W_dec[0, latent]).max().item() == pytest.approx(1, abs=1e-5)
    typical = before[0][0][:, live].norm(dim=0).mean()
    torch.testing.assert_close(W_enc[0].mT[dead[0]], 0.2 * typical * W_dec[0, dead[0]])
    assert b_enc[0, dead[0]].tolist() == [0.0, 0.0]
    for stacked, latents in (
        (W_enc, lambda t: t[0].mT),
        (W_dec, lambda t: t[0]),
        (b_enc, lambda t: t[0]),
    ):
        for key in ("exp_avg", "exp_avg_sq"):
            average = latents(optimizer.state[stacked][key])
            assert float(average[dead[0]].abs().max()) == 0
            assert float(average[live].abs().max()) > 0


def test_simple_resampling_leaves_the_optimizer_as_it_is():
    run, (W_enc, *_), optimizer = _stepped()
    before = optimizer.state[W_enc]["exp_avg"].clone()
    dead = torch.ones(1, 12, dtype=torch.bool)
    how = TrainingConfig(resample="simple")
    resample(run.ensemble, optimizer, dead, None, torch.tensor([0.1]), how, [0], 5)
    assert torch.equal(optimizer.state[W_enc]["exp_avg"], before)


def _stepped():
    """A run after one update, so that the optimizer remembers something."""
    run = _Run(CONFIG, quick(), shuffled(ROWS, 16, [0]), [(0.1, 0)])
    run.losses(0).sum().backward()
    run.optimizer.step()
    return run, [parameter(run.ensemble, n) for n in ("W_enc", "W_dec", "b_enc")], run.optimizer


def test_inputs_are_drawn_by_the_square_of_their_loss():
    losses = torch.tensor([1.0, 2.0, 0.0])
    draw = ground.generator(0)
    drawn = torch.cat([drawn_by_loss(losses, 1, draw) for _ in range(4000)])
    share = drawn.bincount(minlength=3) / len(drawn)
    assert share.tolist() == pytest.approx([0.2, 0.8, 0.0], abs=0.03)


def test_more_dead_latents_than_inputs_share_them():
    assert len(drawn_by_loss(torch.ones(3), 8, ground.generator(0))) == 8


def test_batchtopk_ends_with_a_threshold_that_keeps_about_k():
    config = SAEConfig(5, 12, "batchtopk", k=3)
    trained = train(config, quick(steps=60), shuffled(ROWS, 64, [0]), progress=False)
    sae = trained.sae()
    assert float(sae.threshold) > 0
    assert float((sae.encode(ROWS) > 0).float().sum(-1).mean()) == pytest.approx(3, abs=0.2)


def test_every_row_comes_once_in_a_pass():
    data = shuffled(torch.arange(12.0)[:, None], 4, [0, 1])
    for turn in range(2):
        rows = torch.cat([data(3 * turn + step) for step in range(3)], 1)[..., 0]
        assert [sorted(member.tolist()) for member in rows] == [list(range(12))] * 2
    assert not torch.equal(data(0)[0], data(0)[1])


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    how = quick(resample="bricken", resample_every=4, steps=12, candidates=32)
    data, path = shuffled(ROWS, 16, [0]), tmp_path / "run.safetensors"
    whole = train(CONFIG, how, data, [0.3], progress=False)

    def breaking(step):
        if step == 9:
            raise KeyboardInterrupt
        return data(step)

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, how, breaking, [0.3], checkpoint=path, checkpoint_every=5, progress=False)
    seen = []

    def watching(step):
        seen.append(step)
        return data(step)

    again = train(CONFIG, how, watching, [0.3], checkpoint=path, checkpoint_every=5, progress=False)
    assert min(seen[1:]) == 5  # the very first batch is only looked at
    assert torch.equal(again.tensor("W_dec"), whole.tensor("W_dec"))
    assert torch.equal(again.silent, whole.silent)


@pytest.mark.parametrize(
    ("rows", "batch", "words"),
    [
        (torch.full((4, 5), torch.nan), 2, "4 of 4 activations are not finite"),
        (torch.zeros(0, 5), 1, "at least one"),
        (torch.zeros(5), 1, "give rows"),
        (ROWS, 65, "batch is 65 for 64 activations"),
        (ROWS, 0, "batch is 0"),
    ],
)
def test_activations_that_cannot_be_trained_on_are_refused(rows, batch, words):
    with pytest.raises(ValueError, match=words):
        shuffled(rows, batch, [0])


def test_data_that_are_not_finite_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        train(CONFIG, quick(), lambda step: torch.full((1, 4, 5), torch.inf), progress=False)
    with pytest.raises(ValueError, match="it takes \\[2, batch, 5\\]"):
        train(CONFIG, quick(), shuffled(ROWS, 16, [0]), [0.1], [0, 1], progress=False)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"resample": "ghost"}, "one of none, simple, bricken"),
        ({"steps": 0}, "1 or more"),
        ({"decay": 2.0}, "share"),
    ],
)
def test_a_training_that_cannot_be_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**config)


@pytest.mark.parametrize(("prices", "seeds"), [([], [0]), ([-1.0], [0]), ([0.1], [])])
def test_prices_and_seeds_are_needed(prices, seeds):
    with pytest.raises(ValueError, match="none negative"):
        train(CONFIG, quick(), shuffled(ROWS, 16, [0]), prices, seeds, progress=False)


def test_a_parameter_that_is_not_there_is_named():
    trained = train(SAEConfig(5, 12, "tied"), quick(), shuffled(ROWS, 16, [0]), progress=False)
    with pytest.raises(ValueError, match="no parameter W_enc; they have W_dec, b_dec, b_enc"):
        trained.tensor("W_enc")
