"""The transformer: the short way of its last layer, causality, its parts, and many at once."""

import pytest
import torch

from mechbook.ensembles import Ensemble
from mechbook.icl import model as models
from mechbook.icl.config import IclConfig, gaussian, paper

SMALL = {"n_features": 8, "d_model": 16, "n_heads": 2, "n_classes": 20, "n_labels": 10}
CONFIGS = {
    "attention only": IclConfig(**SMALL),
    "with MLPs": IclConfig(**SMALL, mlp=True, n_layers=3, positions="learned"),
    "after Reddy": gaussian(n_features=15, d_model=32, n_labels=10, embedder="none", norm=False),
    "one-hot and a linear embedder": IclConfig(**{**SMALL, "d_model": 34}, positions="one-hot"),
    "convolutional": paper(side=12, n_layers=2, d_model=16, n_heads=2, n_labels=10, n_classes=20),
}


def inputs(config, batch=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    pictures = torch.randn(batch, 9, config.n_inputs, generator=draw)
    return pictures, torch.randint(config.n_labels, (batch, 8), generator=draw)


def stirred(config):
    """A model with no parameter at a special value, such as biases of zero."""
    model = models.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_the_short_way_of_the_last_layer_gives_the_same_logits(name):
    config = CONFIGS[name]
    model, data = stirred(config), inputs(config)
    logits, _ = model(*data, True)
    assert logits.shape == (3, 10)
    torch.testing.assert_close(model(*data), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_patterns_are_causal_and_sum_to_one(name):
    config = CONFIGS[name]
    _, patterns = stirred(config)(*inputs(config), True)
    assert patterns.shape == (3, config.n_layers, config.n_heads, 17, 17)
    torch.testing.assert_close(patterns.sum(-1), torch.ones(patterns.shape[:-1]))
    assert not patterns.triu(1).any()


def test_attention_is_torchs_own():
    attention = stirred(CONFIGS["attention only"]).blocks[0].attention
    x = torch.randn(2, 17, 16)
    library = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        weights = (attention.query.weight, attention.key.weight, attention.value.weight)
        library.in_proj_weight.copy_(torch.cat(weights))
        zero = torch.zeros(16)
        library.in_proj_bias.copy_(torch.cat([attention.query.bias, zero, attention.value.bias]))
        library.out_proj.load_state_dict(attention.out.state_dict())
    expected, weights = library(x, x, x, attn_mask=attention.future, average_attn_weights=False)
    found, pattern = attention(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(pattern, weights)


def test_pictures_and_labels_stand_in_turn():
    model = stirred(CONFIGS["attention only"])
    pictures, labels = inputs(CONFIGS["attention only"])
    bare = model.stream(pictures, labels) - model.place
    for pair in range(8):
        torch.testing.assert_close(bare[:, 2 * pair], model.embed(pictures[:, pair]))
        torch.testing.assert_close(bare[:, 2 * pair + 1], model.label_vectors[labels[:, pair]])
    torch.testing.assert_close(bare[:, 16], model.embed(pictures[:, 8]))


def test_one_hot_places_stand_beside_the_content():
    config = CONFIGS["after Reddy"]
    model, (pictures, labels) = models.build(config), inputs(config)
    stream = model.stream(pictures, labels)
    assert torch.equal(stream[0, :, 15:], torch.eye(17))
    assert torch.equal(stream[:, 0, :15], pictures[:, 0])


def test_sinusoids_are_sines_and_cosines_of_thirty():
    found = models.sinusoids(17, 8)
    for posn in (0, 5, 16):
        for i in range(4):
            angle = torch.tensor(posn / 30 ** (2 * i / 8))
            torch.testing.assert_close(found[posn, i], angle.sin())
            torch.testing.assert_close(found[posn, 4 + i], angle.cos())


def test_initial_weights_hang_on_the_seed_and_not_on_classes_or_decay():
    one, two, other = (
        models.build(IclConfig(**{**SMALL, **changes})).state_dict()
        for changes in ({"n_classes": 12}, {"decay": 1.0, "arm": "L1"}, {"seed": 1})
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])


def test_each_parameter_has_a_part_and_what_the_notes_spare_has_none():
    config = IclConfig(**SMALL, mlp=True, positions="learned")
    parts = {name: models.part(name) for name, _ in models.build(config).named_parameters()}
    spared = {name for name, part in parts.items() if part == "none"}
    assert {name for name in parts if name.endswith("bias")} <= spared
    assert {name for name in parts if "norm" in name} <= spared
    assert {"label_vectors", "place"} <= spared
    kept = {name: part for name, part in parts.items() if part != "none"}
    assert all(name.endswith("weight") for name in kept)
    assert kept["embed.weight"] == "embedder"
    assert kept["blocks.1.attention.value.weight"] == "attention"
    assert kept["blocks.0.mlp.2.weight"] == "mlp"
    assert kept["readout.weight"] == "readout"
    assert len(kept) == 1 + 2 * (4 + 2) + 1


def test_the_papers_convolutions_are_embedder_and_their_norms_are_spared():
    model = models.build(CONFIGS["convolutional"])
    for name, module in model.embed.named_modules():
        for parameter, _ in module.named_parameters(recurse=False):
            expected = "embedder" if isinstance(module, torch.nn.Conv2d) else "none"
            assert models.part(f"embed.{name}.{parameter}") == expected


def test_large_pictures_pass_the_convolutions():
    config = paper(side=105, n_layers=1, n_labels=10, n_classes=20)
    assert models.build(config)(*inputs(config, 1)).shape == (1, 10)


@pytest.mark.parametrize("name", CONFIGS)
def test_many_at_once_answer_as_each_alone(name):
    config = CONFIGS[name]
    members, data = [stirred(config) for _ in range(3)], inputs(config)
    together = Ensemble(members).map(lambda m, *x: m(*x, True), *data, shared=(0, 1))
    for i, member in enumerate(members):
        for found, alone in zip(together, member(*data, True), strict=True):
            torch.testing.assert_close(found[i], alone, atol=1e-4, rtol=1e-4)
