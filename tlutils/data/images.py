"""One way to read an image: an upright RGB picture comes back, or words that say why not."""

import io
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import LearnerError
from ..runtime import user_path
from .files import read_bytes

log = logging.getLogger(__name__)

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on paper and in most viewers."""

EXTENSIONS = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Endings (lower case) that promise an image. The content decides; the ending only chooses the message."""

LARGE = 2_000_000
"""A JPEG with at least this many pixels is decoded at 1/2, 1/4 or 1/8 of its size where that is enough."""

# Only formats whose decoders are made for pictures from strangers: EPS would start another program.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")


class UnreadableImage(LearnerError):
    """A file that cannot become a picture.

    Args:
        path: the file.
        kind: one word, such as "missing", "broken" or "too-large".
        message: what is wrong with it, and what to do.
    """

    def __init__(self, path: Path, kind: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.kind, self.message = path, kind, message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kind, self.message)


def load_image(path: str | Path, *, grey_bits: int = 16, min_side: int | None = None) -> Image.Image:
    """Return the picture in a file as an upright 8-bit RGB PIL image; every pixel of it, without `min_side`.

    The content decides the format, not the ending. The EXIF orientation is applied. Transparent pixels show
    BACKGROUND. 16-bit grey is divided by 257, so that 65,535 is white. Of an animation the first frame comes
    back. A picture with more pixels than Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`) is refused by its
    header.

    Args:
        path: the file.
        grey_bits: how many of the 16 bits of a 16-bit grey picture are used: 12 for a camera whose white is
            4,095.
        min_side: the shorter side, in pixels, that is enough. A JPEG of `LARGE` pixels or more then comes
            back at a half, a quarter or an eighth of its size (rounded up), the smallest whose sides are as
            long: its decoder leaves the finest detail out, in a fraction of the time.

    Raises:
        UnreadableImage: the file is missing, broken, huge or not supported. It is a LearnerError.

    Example:
        >>> from PIL import Image
        >>> from tlutils import data
        >>> Image.new("L", (40, 30)).save("grey.png")
        >>> picture = data.load_image("grey.png")
        >>> picture.mode, picture.size
        ('RGB', (40, 30))
    """
    path = user_path(path)
    return decode(read_file(path), path, grey_bits, min_side)


def read_file(path: Path) -> bytes:
    """Return the content of an image's file. Raises UnreadableImage."""
    try:
        return read_bytes(path)
    except IsADirectoryError:
        raise UnreadableImage(path, "unreadable", "This is a folder; expected an image file.") from None
    except FileNotFoundError:
        raise UnreadableImage(
            path, "missing", "There is no such file. Was it moved after the scan?"
        ) from None
    except OSError as error:
        raise UnreadableImage(path, "unreadable", f"The file cannot be read ({error.strerror}).") from error


def decode(content: bytes, path: Path, grey_bits: int = 16, min_side: int | None = None) -> Image.Image:
    """Return the picture in the bytes of a file, as `load_image` does; `path` is for messages alone."""
    if not content:
        raise UnreadableImage(path, "empty-file", "The file is empty (0 bytes). Copy or download it again.")
    Image.init()
    try:
        image = Image.open(io.BytesIO(content), formats=[f for f in _FORMATS if f in Image.OPEN])
    except UnidentifiedImageError:
        raise UnreadableImage(path, *_why_unknown(content, path)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(path, "too-large", f"{error} It was left unread.") from None
    except Exception as error:  # a header can be broken in as many ways as there are formats
        raise UnreadableImage(path, "broken", f"The header is broken ({error}).") from error
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        message = (
            f"{width} x {height} pixels are over the limit of {Image.MAX_IMAGE_PIXELS}. Make a smaller copy."
        )
        raise UnreadableImage(path, "too-large", message)
    try:
        if min_side and image.format in ("JPEG", "MPO") and width * height >= LARGE:
            image.draft(None, (min_side, min_side))
        image.load()
        return to_rgb(image, grey_bits)
    except LearnerError as error:
        raise UnreadableImage(path, "unsupported", str(error)) from error
    except Exception as error:
        message = f"The {image.format} file is broken or cut short ({error}). Copy or download it again."
        raise UnreadableImage(path, "broken", message) from error


def _why_unknown(content: bytes, path: Path) -> tuple[str, str]:
    """Return the kind and the message for content that no decoder recognises."""
    brand = content[8:12].decode("ascii", "replace")
    if content[4:8] == b"ftyp":
        name = (
            "AVIF"
            if brand in ("avif", "avis")
            else "HEIC/HEIF"
            if brand[:2] in ("he", "mi", "ms")
            else "video"
        )
        message = f"This is a {name} file (brand {brand!r}), which cannot be read here."
        if name != "video":
            message += " Save it as JPEG, or install pillow-heif and call pillow_heif.register_heif_opener()."
        return "unsupported", message
    if path.suffix.lower() in EXTENSIONS:
        return (
            "unreadable",
            f"The content is not an image that can be read here, although the name ends in {path.suffix}.",
        )
    return "not-an-image", "This is not an image."


def to_rgb(image: Image.Image, grey_bits: int = 16) -> Image.Image:
    """Return a PIL image of any mode as upright 8-bit RGB; the image that came in stays as it is.

    The `info` of a picture that had more than 8 bits says its largest grey value, as "white".
    Raises LearnerError for a mode or a range of values that has no agreed meaning as a picture.
    """
    try:
        upright = ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error, OSError) as error:
        log.warning("An orientation tag could not be read and was passed over (%s).", error)
        upright = image
    mode = upright.mode
    if mode.startswith("I") or mode == "F":
        values = np.asarray(upright)
        picture = Image.fromarray(_eight_bits(values, grey_bits)).convert("RGB")
        picture.info["white"] = values.max().item()
        return picture
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in upright.info:
        rgba = upright.convert("RGBA") if mode != "La" else upright.convert("LA").convert("RGBA")
        paper = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
        return Image.alpha_composite(paper, rgba).convert("RGB")
    if mode in ("RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "RGBX"):
        return upright.convert("RGB")
    raise LearnerError(f"Pixels of mode {mode!r} have no agreed RGB colours. Save the picture as RGB.")


def _eight_bits(values: np.ndarray, grey_bits: int) -> np.ndarray:
    """Return grey values of 16 or 32 bits, or fractions, as uint8, by one fixed scale per type."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high < 2**grey_bits and values.dtype.kind in "iu":
        scale = 255 / (2**grey_bits - 1)
    else:
        raise LearnerError(
            f"Grey values from {low:g} to {high:g} ({values.dtype}) have no agreed brightness. Expected 0 to "
            f"{2**grey_bits - 1} as whole numbers, or 0 to 1 as fractions. Scale them and save again."
        )
    return np.round(values * scale).astype(np.uint8)
