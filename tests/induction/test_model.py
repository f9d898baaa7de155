"""The model: no biases, positions where they are said to be; the log measures what it names."""

import numpy as np
import pytest
import torch

from mechbook import heads
from mechbook.induction import circuits, model
from mechbook.induction import task as tasks
from mechbook.induction.model import ModelConfig, TrainingConfig
from mechbook.induction.task import Task

TASK = Task(n_types=10, shortest=3, longest=4, length=10)
SHAPE = ModelConfig(d_model=16)


@pytest.fixture
def net():
    return model.build(TASK, SHAPE)


def short_sum(net, tokens):
    """The logits, one head after the other, positions in queries and keys alone."""
    P, later = net.W_pos[: tokens.shape[1]], torch.ones(10, 10).triu(1).bool()
    stream = net.W_E[tokens]
    for layer in range(2):
        write = torch.zeros_like(stream)
        for head in range(2):
            W_Q, W_K, W_V, W_O = (
                getattr(net, name)[layer, head] for name in ("W_Q", "W_K", "W_V", "W_O")
            )
            scores = (stream + P) @ W_Q @ ((stream + P) @ W_K).mT / W_Q.shape[1] ** 0.5
            pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
            write = write + pattern @ stream @ W_V @ W_O
        stream = stream + write
    return stream @ net.W_U


def test_positions_in_queries_and_keys_reach_nothing_else():
    net = model.build(TASK, ModelConfig(d_model=16, positions="queries and keys"))
    tokens = model.held_out(TASK, 3).tokens
    torch.testing.assert_close(net(tokens), short_sum(net, tokens))
    assert float((net(tokens) - model.build(TASK, SHAPE)(tokens)).detach().abs().max()) > 1e-4


def test_positions_that_are_hidden_learn_all_the_same():
    net = model.build(TASK, ModelConfig(d_model=16, positions="queries and keys"))
    texts = model.held_out(TASK, 3)
    tasks.loss(net(texts.tokens), texts).backward()
    assert float(net.pos_embed.weight.grad.abs().max()) > 0


def test_biases_are_zero_and_stay_so(net):
    model.train(net, TASK, TrainingConfig(steps=3, batch=4, log_every=3))
    named = {name: p for name, p in net.named_parameters() if name.endswith("bias")}
    assert named
    assert all(not p.requires_grad and bool((p == 0).all()) for p in named.values())
    circuits.heads_of(net)  # refuses biases


def test_training_learns_and_comes_out_the_same_twice():
    config = TrainingConfig(steps=60, batch=16, log_every=20)
    runs = [model.train(model.build(TASK, SHAPE), TASK, config) for _ in range(2)]
    assert np.array_equal(runs[0].loss, runs[1].loss)
    assert runs[0].metrics["loss"][-1] < runs[0].metrics["loss"][0]
    assert runs[0].metric_steps.tolist() == [0, 20, 40, 60]


def test_the_log_has_what_its_names_say(net):
    texts = model.held_out(TASK, 8)
    found = model.measure(net, texts)
    logits = net(texts.tokens).detach()
    assert found["accuracy"] == tasks.accuracy(logits, texts)
    looks = heads.head_scores(net, texts.tokens)
    torch.testing.assert_close(found["induction"], looks["induction"])
    writer, reader = (
        circuits.Head(*(getattr(net, f"W_{x}")[i, j].detach() for x in "QKVO"))
        for i, j in ((0, 1), (1, 0))
    )
    alone = circuits.diagonal_share(circuits.k_composed_qk(net.W_E.detach(), writer, reader))
    assert float(found["K diagonal"][1, 0]) == float(alone)


def test_a_watched_text_is_looked_at_each_time(net):
    text = model.held_out(TASK, 1).tokens[0]
    config = TrainingConfig(steps=4, batch=4, log_every=2)
    history = model.train(net, TASK, config, watch=text)
    assert history.metrics["pattern"].shape == (3, 2, 2, 10, 10)
    last = heads.patterns(net, text[None])[:, 0].numpy()
    np.testing.assert_allclose(history.metrics["pattern"][-1], last, rtol=1e-5)
    assert history.metrics["OV"].shape == (3, 2, 2, 10, 10)


def test_one_layer_has_nothing_to_compose():
    net = model.build(TASK, ModelConfig(n_layers=1, d_model=16))
    assert "K diagonal" not in model.measure(net, model.held_out(TASK, 8))


def test_the_rate_rises_stays_and_falls():
    config = TrainingConfig(steps=100, warmup=10, cooldown=0.5)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9] == rates[50] == 1
    assert rates[75] == 0.5
    assert rates[99] == pytest.approx(0.02)


def test_the_table_of_seeds_is_read_back(monkeypatch):
    variants = (model.Variant("two layers", SHAPE, TASK),)
    monkeypatch.setattr(model, "VARIANTS", variants)
    columns, facts = model.make_seeds(seeds=2, steps=25)
    steps, values = model.along(columns, "two layers", "accuracy")
    assert steps.tolist() == [0, 25]
    assert values.shape == (2, 2, 1)
    _, attention = model.along(columns, "two layers", "induction", ["0.0", "1.1"])
    net = model.build(TASK, ModelConfig(d_model=16, seed=1))
    looks = heads.head_scores(net, model.held_out(TASK, 64).tokens)["induction"]
    assert attention[1, 0].tolist() == pytest.approx([float(looks[0, 0]), float(looks[1, 1])])
    assert model.along(columns, "two layers", "K diagonal", ["1.0"])[1].shape == (2, 2, 1)
    assert facts["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="no rows of 'nothing'"):
        model.along(columns, "two layers", "nothing")


@pytest.mark.parametrize("wrong", [{"n_heads": 3}, {"n_layers": 0}, {"positions": "nowhere"}])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"give one of|divide the width"):
        ModelConfig(**wrong)


def test_no_seed_is_refused():
    with pytest.raises(ValueError, match="seeds is 0"):
        model.make_seeds(seeds=0)
