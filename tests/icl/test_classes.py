"""Classes: held-out ones apart, components fitted without them, broken archives told from whole ones."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mechbook import training
from mechbook.icl import classes, omniglot
from mechbook.icl.config import IclConfig, gaussian

GLYPHS = IclConfig(source="glyphs", side=12, n_classes=20, n_holdout=10, n_features=16)


def draw(pool, cls, exemplar, seed=0, **options):
    return pool.draw(torch.tensor(cls), torch.tensor(exemplar), training.generator(seed), **options)


# --- pools ------------------------------------------------------------------------------------


def test_held_out_classes_are_apart_and_the_same_for_every_seed():
    pool = classes.pool(GLYPHS)
    assert len(pool.holdout) == 10
    assert sorted([*pool.train.tolist(), *pool.holdout.tolist()]) == list(range(48))
    for seed in range(3):
        assert not {*pool.choose(38, seed).tolist()} & {*pool.holdout.tolist()}


def test_few_classes_are_some_of_the_many_of_a_seed_and_differ_between_seeds():
    pool = classes.pool(GLYPHS)
    assert torch.equal(pool.choose(9, 5), pool.choose(38, 5)[:9])
    assert not torch.equal(pool.choose(9, 5), pool.choose(9, 6))


def test_components_are_white_and_fitted_without_the_held_out_classes():
    pool = classes.pool(GLYPHS)
    seen = pool.table[pool.train, :, 0].flatten(0, 1).double()
    assert seen.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(seen.T.cov().float(), torch.eye(16), atol=1e-3, rtol=0)
    hidden = pool.table[pool.holdout, :, 0].flatten(0, 1)
    assert hidden.mean(0).abs().max() > 0.05


def test_components_are_those_of_numpys_singular_vectors():
    table = torch.rand(6, 5, 1, 7)
    pool = classes.with_components(classes.split(table, 2), table, 3)
    bare = classes.split(table, 2)
    x = bare.table[bare.train, :, 0].flatten(0, 1).double().numpy()
    left, _, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    expected = np.abs(left[:, :3]) * (len(x) - 1) ** 0.5
    found = pool.table[pool.train, :, 0].flatten(0, 1).abs()
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=1e-4, rtol=0)


def test_gaussian_exemplars_have_the_published_spread():
    pool = classes.pool(gaussian(noise=0.5))
    x = draw(pool, [7] * 4000, [0] * 4000)
    mean = pool.table[7, 0, 0] / (1 + 0.5**2) ** 0.5
    torch.testing.assert_close(x.mean(0), mean, atol=0.01, rtol=0)
    within = (x - mean).pow(2).sum(1).mean()
    assert float(within) == pytest.approx(0.25 / 1.25, rel=0.05)


def test_augmented_drawings_move_a_little_and_only_where_asked():
    pool = classes.pool(
        IclConfig(source="glyphs", side=12, features="pixels", n_holdout=10, versions=4)
    )
    plain = draw(pool, [3] * 50, [1] * 50)
    assert (plain == plain[0]).all()
    moved = draw(pool, [3] * 50, [1] * 50, augmented=True)
    assert len(moved.unique(dim=0)) == 4
    ink = moved.sum(1) / plain[0].sum()
    assert ink.min() > 0.6
    assert ink.max() < 1.2


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: classes.pool(GLYPHS).choose(39, 0), "39 classes were asked for, but 38"),
        (lambda: classes.split(torch.zeros(4, 9, 1, 2), 4), "there are 4 classes"),
        (lambda: classes.gaussians(5, 5, 3, 0.0), "give Gaussian classes a spread"),
        (
            lambda: classes.with_components(
                classes.split(torch.rand(4, 9, 1, 2), 1), torch.rand(4, 9, 1, 2), 3
            ),
            "give at most 2 components",
        ),
    ],
)
def test_impossible_pools_are_refused(act, says):
    with pytest.raises(ValueError, match=says):
        act()


def test_more_shots_than_exemplars_are_refused(monkeypatch):
    few = classes.glyphs
    monkeypatch.setattr(classes, "glyphs", lambda side: few(n_exemplars=8, side=side))
    with pytest.raises(ValueError, match="a class has 8 exemplars, but a sequence may show it 9"):
        classes.pool(IclConfig(source="glyphs", side=11, features="pixels", n_holdout=10))


# --- Omniglot ---------------------------------------------------------------------------------


def pictures(count, seed):
    draw = np.random.default_rng(seed)
    return (draw.random((count, 105, 105)) < 0.1).astype(np.uint8)


@pytest.fixture
def parts():
    """Three classes in one part and two in the other, four drawings each."""
    return {"background": pictures(12, 0), "evaluation": pictures(8, 1)}


@pytest.fixture
def npz(tmp_path, parts):
    content = {}
    for name, images in parts.items():
        content[f"{name}_bits"] = np.packbits(images.reshape(len(images), -1), axis=1)
        content[f"{name}_class"] = np.repeat(np.arange(len(images) // 4), 4).astype(np.int16)
    np.savez(tmp_path / "small.npz", **content)
    return tmp_path / "small.npz"


@pytest.fixture
def folder(tmp_path, parts):
    """Archives as the official ones are laid out, and their checksums."""
    sums = {}
    for name, images in parts.items():
        store = io.BytesIO()
        with zipfile.ZipFile(store, "w") as file:
            for i, image in enumerate(images):
                png = io.BytesIO()
                Image.fromarray((1 - image) * 255).convert("1").save(png, "PNG")
                file.writestr(
                    f"images_{name}/A/character{i // 4:02d}/{i:04d}_{i % 4:02d}.png", png.getvalue()
                )
        (tmp_path / f"images_{name}.zip").write_bytes(store.getvalue())
        sums[f"images_{name}.zip"] = hashlib.md5(store.getvalue()).hexdigest()
    return tmp_path, sums


def test_the_file_of_bits_gives_the_drawings_back(npz, parts):
    found = omniglot.load(npz, side=105)
    assert found.shape == (5, 4, 105, 105)
    expected = np.concatenate([*parts.values()]).reshape(5, 4, 105, 105)
    assert np.array_equal(found.numpy(), expected)


def test_archives_and_file_of_bits_give_the_same(npz, folder):
    place, sums = folder
    assert torch.equal(omniglot.load(place, 28, sums), omniglot.load(npz, 28))


def test_pixels_are_averaged(npz):
    whole, small = omniglot.load(npz, 105), omniglot.load(npz, 21)
    blocks = whole.reshape(5, 4, 21, 5, 21, 5).mean((3, 5))
    torch.testing.assert_close(small, blocks)


def test_an_archive_with_another_checksum_is_refused(folder):
    place, sums = folder
    with pytest.raises(ValueError, match="is not the official archive: its MD5 is"):
        omniglot.load(place, 28)
    (place / "images_background.zip").unlink()
    with pytest.raises(ValueError, match=r"has no images_background.zip; .* fetches the two"):
        omniglot.load(place, 28, sums)


def test_a_corrupt_archive_is_refused(folder):
    place, sums = folder
    path = place / "images_background.zip"
    path.write_bytes(path.read_bytes()[:500])
    sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"images_background.zip is broken"):
        omniglot.load(place, 28, sums)


def test_a_cut_file_of_bits_is_refused(npz):
    npz.write_bytes(npz.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"small.npz is no whole npz file"):
        omniglot.load(npz)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"background_bits": np.zeros((2, 3))}, "lacks background_class"),
        (
            {"background_bits": np.zeros((2, 3), np.uint8), "background_class": np.zeros(2)},
            r"has the shape \[2, 3\]; each of the 2 drawings needs 1379 bytes",
        ),
        (
            {
                "background_bits": np.zeros((3, 1379), np.uint8),
                "background_class": np.array([0, 0, 1]),
            },
            r"have \[1, 2\] drawings",
        ),
    ],
)
def test_a_file_with_other_content_is_refused(tmp_path, content, says):
    np.savez(tmp_path / "odd.npz", **content)
    with pytest.raises(ValueError, match=says):
        omniglot.load(tmp_path / "odd.npz")


def test_no_data_and_wrong_sizes_are_refused(tmp_path, npz, monkeypatch):
    monkeypatch.setenv("MECHBOOK_OMNIGLOT", "")
    monkeypatch.setattr(omniglot, "DEFAULT", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no Omniglot on this machine"):
        omniglot.load(None)
    with pytest.raises(ValueError, match=r"none.npz does not exist"):
        omniglot.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="side is 106"):
        omniglot.load(npz, 106)


def test_the_place_of_the_data_can_stand_in_the_environment(npz, monkeypatch):
    monkeypatch.setenv("MECHBOOK_OMNIGLOT", str(npz))
    assert omniglot.load(None).shape == (5, 4, 28, 28)


def test_fetching_refuses_what_is_not_the_archive(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        omniglot.urllib.request, "urlopen", lambda *a, **k: io.BytesIO(b"<html>moved</html>")
    )
    assert omniglot.main([str(tmp_path)]) == 1
    assert "is not the official archive" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
