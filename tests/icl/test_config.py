"""Configs: named by every field, plain for JSON, and refused where they make no sense."""

import dataclasses
import json

import numpy as np
import pytest

from mechbook.icl.config import OF_A_MEMBER, IclConfig, gaussian, paper


@pytest.mark.parametrize("config", [IclConfig(), gaussian(), paper(side=105, seed=3)])
def test_a_config_survives_json(config):
    assert IclConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_name_of_a_run_hangs_on_every_field():
    changes = {
        "source": "glyphs", "features": "pixels", "n_features": 63, "side": 14, "noise": 0.2,
        "versions": 2, "n_classes": 100, "n_holdout": 24, "n_labels": 33, "p_bursty": 0.5,
        "burst": (4, 4), "zipf": 1.0, "n_layers": 3, "d_model": 32, "n_heads": 2, "mlp": True,
        "norm": False, "embedder": "resnet", "positions": "learned", "readout": "mlp", "label_scale": 0.1,
        "arm": "L1", "decayed": "attention", "decay": 0.1, "lr": 2e-3, "warmup": 5,
        "schedule": "cosine", "clip": 1.0, "batch": 64, "steps": 10, "evaluate_every": 5,
        "episodes": 7, "precision": "bfloat16", "seed": 1,
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(IclConfig)}
    start = IclConfig(features="pixels")
    changes["features"] = "pca"
    names = {start.run}
    for field, value in changes.items():
        names.add(dataclasses.replace(start, **{field: value}).run)
    assert len(names) == len(changes) + 1


def test_members_of_a_program_differ_in_data_and_decay_alone():
    one = IclConfig(mlp=True)
    other = dataclasses.replace(
        one, seed=4, decay=0.3, arm="L1", decayed="mlp", n_classes=100, p_bursty=0.5, zipf=1.0
    )
    assert one.program == other.program
    assert one.program != dataclasses.replace(one, lr=2e-3).program
    assert {*OF_A_MEMBER} <= {field.name for field in dataclasses.fields(IclConfig)}


def test_the_papers_rates_sum_to_what_research_notes_say():
    """Warmup 4,000 to 3e-4, inverse square root to step 500,000: about 25 in all."""
    config = paper()
    total = config.lr * np.sum([config.rate(step) for step in range(0, config.steps, 100)]) * 100
    assert total == pytest.approx(25.0, abs=0.5)


def test_cosine_ends_at_nothing_and_warmup_starts_small():
    config = IclConfig(schedule="cosine", warmup=10, steps=100)
    assert config.rate(0) == pytest.approx(0.1, rel=0.01)
    assert config.rate(100) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"arm": "L3"}, "arm is 'L3'; give one of AdamW, L2 in the loss"),
        ({"decayed": "mlp"}, "the model has none; give mlp=True"),
        ({"decayed": "embedder", "embedder": "none", "d_model": 64}, "give an embedder"),
        ({"burst": (3, 3)}, "that make 8 pairs"),
        ({"burst": (8,)}, "two classes or more"),
        ({"n_holdout": 3}, "an episode needs 4 classes"),
        ({"n_classes": 8}, "give 9 or more"),
        ({"n_labels": 2}, "give 9 or more"),
        ({"p_bursty": 1.5}, "a share from 0 to 1"),
        ({"d_model": 60, "n_heads": 8}, "a width that the heads divide"),
        ({"embedder": "resnet"}, "give features='pixels'"),
        ({"embedder": "none", "d_model": 80}, "the stream must hold the 64 features"),
        ({"steps": 0}, "must be 1 or more"),
        ({"decay": -1.0}, "not below 0"),
    ],
)
def test_impossible_configs_are_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        IclConfig(**fields)


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"unknown fields \['weight_decay'\]"):
        IclConfig.from_dict({"weight_decay": 0.1})
