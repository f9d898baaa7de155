"""The format of SAELens: what is written, what comes back, and, where it is installed, what it reads."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mechbook.sae import saelens
from mechbook.sae.variants import SAEConfig, build

SAVED = ("relu", "tied", "topk", "batchtopk", "jumprelu", "gated")
WEIGHTS = {"W_enc": [6, 15], "W_dec": [15, 6], "b_dec": [6], "b_enc": [15]}


def make(variant):
    sae = build(SAEConfig(6, 15, variant, k=3))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw).abs()
    return sae


H = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", SAVED)
def test_what_was_saved_comes_back_with_the_same_codes(variant, tmp_path):
    sae = make(variant)
    again = saelens.load(saelens.save(sae, tmp_path / "sae"))
    torch.testing.assert_close(again.encode(H), sae.encode(H))
    torch.testing.assert_close(again(H), sae(H))


@pytest.mark.parametrize("variant", SAVED)
def test_a_folded_scale_leaves_codes_as_they_are(variant, tmp_path):
    sae = make(variant)
    again = saelens.load(saelens.save(sae, tmp_path / "sae", scale=2.5))
    torch.testing.assert_close(again.encode(H / 2.5), sae.encode(H), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again(H / 2.5), sae(H) / 2.5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("variant", "architecture", "names"),
    [
        ("relu", "standard", WEIGHTS),
        ("tied", "standard", WEIGHTS),
        ("topk", "topk", WEIGHTS),
        ("batchtopk", "jumprelu", WEIGHTS | {"threshold": [15]}),
        ("jumprelu", "jumprelu", WEIGHTS | {"threshold": [15]}),
        (
            "gated",
            "gated",
            {**{n: s for n, s in WEIGHTS.items() if n != "b_enc"}}
            | {"b_gate": [15], "b_mag": [15], "r_mag": [15]},
        ),
    ],
)
def test_names_shapes_and_architecture_are_those_of_saelens(variant, architecture, names, tmp_path):
    folder = saelens.save(make(variant), tmp_path, model="m", place="blocks.2.hook_resid_post")
    config = json.loads((folder / "cfg.json").read_text())
    tensors = load_file(folder / "sae_weights.safetensors")
    assert {n: list(t.shape) for n, t in tensors.items()} == names
    assert (config["architecture"], config["d_in"], config["d_sae"]) == (architecture, 6, 15)
    assert config["metadata"] == {"model_name": "m", "hook_name": "blocks.2.hook_resid_post"}
    assert config.get("k") == (3 if variant == "topk" else None)


@pytest.mark.parametrize("variant", SAVED)
def test_saelens_reads_it(variant, tmp_path):
    try:
        import sae_lens
    except ImportError as missing:
        pytest.skip(f"SAELens is not installed beside this TransformerLens ({missing.name})")
    sae = make(variant)
    theirs = sae_lens.SAE.load_from_disk(saelens.save(sae, tmp_path / "sae"))
    torch.testing.assert_close(theirs.encode(H), sae.encode(H))
    torch.testing.assert_close(theirs(H), sae(H))


def test_a_control_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no architecture for 'linear'; it takes relu"):
        saelens.save(make("linear"), tmp_path)


def test_a_folder_that_holds_nothing_and_a_damaged_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no whole autoencoder"):
        saelens.load(tmp_path)
    folder = saelens.save(make("relu"), tmp_path / "sae")
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ValueError, match="no whole autoencoder"):
        saelens.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "temporal"}, "this book reads standard"),
        ({"normalize_activations": "layer_norm"}, "fold it first"),
        ({"apply_b_dec_to_input": False}, "fold it first"),
        ({"d_sae": 14}, r"should be \[14, 6\]"),
    ],
)
def test_what_this_book_does_not_have_is_refused(change, words, tmp_path):
    folder = saelens.save(make("relu"), tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=words):
        saelens.load(folder)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    folder = saelens.save(make("relu"), tmp_path)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors.pop("b_enc")
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="b_enc is missing"):
        saelens.load(folder)
