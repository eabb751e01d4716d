"""Folders of images for the tests of data, and odd files to put into them."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tlutils import data


def picture(seed: int, size: int = 48) -> Image.Image:
    """Soft blobs that no other seed repeats."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def fill(folder: Path, count: int, first: int = 0, ending: str = "png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{first + i:03d}.{ending}" for i in range(count)]
    for i, path in enumerate(paths):
        picture(first + i).save(path)
    return paths


def all_paths(ds: data.DatasetSplits) -> list[Path]:
    return ds.train.paths + ds.val.paths + ds.test.paths


def noted(ds: data.DatasetSplits, kind: str) -> list[str]:
    return sorted(p.path.name for p in ds.problems if p.kind == kind)


def sides_of(ds: data.DatasetSplits) -> dict[str, str]:
    return {path.name: split.name for split in (ds.train, ds.val, ds.test) for path in split.paths}


def heic() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic" + b"\0\0\0\0" + b"mif1heic" + b"\0" * 200


def huge_png(width: int, height: int) -> bytes:
    """A tiny valid file of very many black pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + b"\0" * ((width + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def coloured(folder: Path, counts: dict[str, int], *, wrong: float = 0.0, size: int = 40) -> Path:
    """A folder with a colour for each class, on noise; the share `wrong` of a class has the next colour."""
    names = list(counts)
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([k, i])
            shown = (k + 1) % len(names) if i < wrong * count else k
            colour = np.random.default_rng(1000 + shown).integers(0, 256, 3)
            pixels = rng.integers(0, 90, (size, size, 3)) + np.clip(colour + rng.normal(0, 12, 3), 0, 165)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder
