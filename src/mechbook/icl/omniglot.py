"""Omniglot from the local disk: the official archives, checked; a folder of them; or one file of bits.

Lake, Salakhutdinov and Tenenbaum 2015: 1,623 characters of 50 alphabets, 20 drawings each, 105 × 105
pixels. Nothing is fetched unasked; ``python -m mechbook.icl.omniglot`` fetches the two archives.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mechbook.artifacts import write_atomically

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
ARCHIVES = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
"""MD5 sums of the official archives, as torchvision's own loader has them."""
SIDE = 105
DEFAULT = Path.home() / ".cache" / "mechbook" / "omniglot"
"""Where `main` puts the archives, and `load` looks for them."""
_HOW = "with a network, `python -m mechbook.icl.omniglot` fetches the two official archives"


def load(
    data: Path | str | None, side: int = 28, checksums: Mapping[str, str] = ARCHIVES
) -> Float[Tensor, "class exemplar row column"]:
    """All drawings, ink 1 on 0, averaged to ``side`` pixels; classes in the order of their names.

    Args:
        data: an ``.npz`` of packed bits (keys ``background_bits``, ``background_class`` and the
            same of ``evaluation``), or a folder with the official archives. Default: what the
            environment's ``MECHBOOK_OMNIGLOT`` names, else `DEFAULT`.
        side: pixels along a side, at most 105.
        checksums: MD5 of each archive, by its name.

    Raises:
        ValueError: nothing there, an archive that is not whole or not the official one, classes
            with different numbers of drawings.
    """
    if not 1 <= side <= SIDE:
        raise ValueError(f"side is {side}; give 1 to {SIDE} pixels")
    path = _place(data)
    parts = _from_folder(path, checksums) if path.is_dir() else _from_npz(path)
    return torch.cat([_averaged(images, side) for images in parts])


def _place(data: Path | str | None) -> Path:
    """Where the data lies; workers on other machines know it from their environment."""
    path = Path(data or os.environ.get("MECHBOOK_OMNIGLOT") or DEFAULT)
    if path.exists():
        return path
    if data is None:
        raise ValueError(
            f"there is no Omniglot on this machine; {_HOW}, or name it in MECHBOOK_OMNIGLOT"
        )
    raise ValueError(f"{path.name} does not exist; {_HOW}")


def _averaged(
    images: UInt8[np.ndarray, "class exemplar row column"], side: int
) -> Float[Tensor, "class exemplar row column"]:
    """Mean of the ink in each of side × side equal fields."""
    if side == SIDE:
        return torch.from_numpy(images).float()
    halves = torch.nn.functional.adaptive_avg_pool2d
    return torch.cat([halves(torch.from_numpy(part).float(), side)[None] for part in images])


def _from_npz(path: Path) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path.name} is no whole npz file ({error}); {_HOW}") from error
    parts = []
    for name in ("background", "evaluation"):
        missing = {f"{name}_bits", f"{name}_class"} - set(content)
        if missing:
            raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}; {_HOW}")
        bits, classes = content[f"{name}_bits"], content[f"{name}_class"]
        if bits.shape != (len(classes), -(-(SIDE**2) // 8)):
            raise ValueError(
                f"{name}_bits of {path.name} has the shape {list(bits.shape)}; each of the "
                f"{len(classes)} drawings needs {-(-(SIDE**2) // 8)} bytes"
            )
        images = np.unpackbits(bits, axis=1, count=SIDE**2).reshape(-1, SIDE, SIDE)
        parts.append(_by_class(images, classes, path.name))
    return parts


def _by_class(images: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    order = np.argsort(classes, kind="stable")
    _, counts = np.unique(classes, return_counts=True)
    if not len(counts) or (counts != counts[0]).any():
        raise ValueError(
            f"the classes of {name} have {sorted({*counts.tolist()})} drawings; each needs as many"
        )
    return images[order].reshape(len(counts), counts[0], SIDE, SIDE)


def _from_folder(folder: Path, checksums: Mapping[str, str]) -> list[np.ndarray]:
    parts = []
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder.name} has no {name}; {_HOW}")
        content = path.read_bytes()
        _refuse_other(name, content, expected)
        parts.append(_from_archive(name, content))
    return parts


def _refuse_other(name: str, content: bytes, expected: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(
            f"{name} is not the official archive: its MD5 is {found}, expected {expected}. "
            f"Delete it and fetch it again; {_HOW}"
        )


def _from_archive(name: str, content: bytes) -> np.ndarray:
    images, classes = [], []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            for entry in sorted(e for e in file.namelist() if e.endswith(".png")):
                with Image.open(io.BytesIO(file.read(entry))) as image:
                    images.append(np.asarray(image.convert("1"), dtype=np.uint8) ^ 1)
                classes.append(entry.rsplit("/", 1)[0])
    except (zipfile.BadZipFile, UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{name} is broken ({error}); {_HOW}") from error
    if not images or any(image.shape != (SIDE, SIDE) for image in images):
        raise ValueError(f"{name} has no drawings of {SIDE} × {SIDE} pixels; {_HOW}")
    return _by_class(np.stack(images), np.unique(classes, return_inverse=True)[1], name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the two official archives into a folder, and check them."""
    parser = argparse.ArgumentParser(prog="mechbook.icl.omniglot", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    folder = parser.parse_args(arguments).folder
    for name, expected in ARCHIVES.items():
        try:
            with urllib.request.urlopen(URL + name, timeout=60) as answer:
                content = answer.read()
            _refuse_other(name, content, expected)
            write_atomically(folder / name, content)
        except (OSError, ValueError) as error:
            print(f"{name} could not be fetched: {error}".splitlines()[0], file=sys.stderr)
            return 1
        print(f"{name}: {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
