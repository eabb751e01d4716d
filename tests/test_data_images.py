"""Whatever a file holds, `load_image` gives an upright RGB picture or says what is wrong with which file."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from image_folders import heic, huge_png
from PIL import Image

from tlutils import data
from tlutils.errors import LearnerError

RED = (200, 30, 30)


def red(mode: str) -> Image.Image:
    square = Image.new("RGB", (16, 12), RED)
    if mode == "P":
        square = square.quantize(8)
        square.info["transparency"] = bytes([255] * 8)
        return square
    return square.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGB", "png"),
        ("RGBA", "png"),
        ("P", "png"),
        ("CMYK", "jpg"),
        ("RGB", "jpg"),
        ("RGB", "webp"),
        ("RGB", "gif"),
    ],
)
def test_a_red_square_is_red_however_it_is_stored(tmp_path, mode, ending):
    path = tmp_path / f"square.{ending}"
    red(mode).save(path)
    image = data.load_image(path)
    assert image.mode == "RGB"
    assert image.size == (16, 12)
    assert np.abs(np.asarray(image, dtype=int) - RED).max() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_modes_come_out_as_equal_channels(tmp_path, mode):
    path = tmp_path / "square.png"
    Image.new("L", (16, 12), 255).convert(mode).save(path)
    pixels = np.asarray(data.load_image(path))
    assert pixels.shape == (12, 16, 3)
    assert (pixels == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_the_documented_background_and_not_their_hidden_colour(tmp_path, mode):
    path = tmp_path / "clear.png"
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([200, 0, 0, 0, 200, 0])
        image.save(path, transparency=0)
    else:
        Image.new("RGBA", (8, 8), (200, 0, 0, 0)).convert(mode).save(path)
    assert (np.asarray(data.load_image(path)) == data.BACKGROUND).all()


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.asarray(data.load_image(tmp_path / "half.png"))[0, 0] == pytest.approx([127] * 3, abs=1)


def test_sixteen_bit_grey_is_scaled_and_not_clipped_or_stretched(tmp_path):
    values = np.array([[0, 257 * 10], [257 * 100, 257 * 200]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(data.load_image(tmp_path / "deep.png"))[..., 0].tolist() == [[0, 10], [100, 200]]


# Where the corner that is red on screen lies in the stored pixels, for each EXIF orientation.
STORED = {1: (0, 0), 2: (39, 0), 3: (39, 19), 4: (0, 19), 5: (0, 0), 6: (0, 19), 7: (39, 19), 8: (39, 0)}


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_tag_is_applied(tmp_path, orientation):
    image = Image.new("RGB", (40, 20), "white")
    x, y = STORED[orientation]
    for dx in range(8):
        for dy in range(8):
            image.putpixel((abs(x - dx), abs(y - dy)), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "phone.jpg", exif=exif, quality=95, subsampling=0)
    upright = data.load_image(tmp_path / "phone.jpg")
    assert upright.size == ((20, 40) if orientation >= 5 else (40, 20))
    red_amount, green_amount, _ = upright.getpixel((2, 2))
    assert red_amount > 200
    assert green_amount < 60
    assert data.to_pil_image(upright).size == upright.size  # not turned a second time


def test_the_content_decides_and_not_the_ending(tmp_path):
    Image.new("RGB", (9, 9), RED).save(tmp_path / "really_bmp.jpg", format="BMP")
    assert data.load_image(tmp_path / "really_bmp.jpg").getpixel((0, 0)) == RED


def test_an_iphone_photo_gets_a_hint_and_its_path(tmp_path):
    path = tmp_path / "IMG_0001.jpg"
    path.write_bytes(heic())
    with pytest.raises(LearnerError, match=r"IMG_0001\.jpg.*HEIC.*JPEG.*pillow-heif"):
        data.load_image(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_cut_off_file_names_itself_and_no_global_switch_is_turned(tmp_path, share):
    from PIL import ImageFile

    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(LearnerError, match=r"cut\.jpg"):
        data.load_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "side", [10_000, 14_000]
)  # 100 million pixels: Pillow only warns; 196 million: it raises
def test_a_huge_picture_is_refused_from_its_header(tmp_path, side):
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "huge.png"
    path.write_bytes(huge_png(side, side))
    with pytest.raises(LearnerError, match=r"huge\.png.*pixels"):
        data.load_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def pipe(path):
    os.mkfifo(path)


def pipe_behind_a_link(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def device(path):
    path.symlink_to("/dev/zero")


def listening(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # its name may not be long
        made.bind(path.name)
        os.chdir(here)


@pytest.mark.skipif(os.name == "nt", reason="such files exist on Unix only")
@pytest.mark.parametrize("make", [pipe, pipe_behind_a_link, device, listening])
def test_what_has_no_end_is_not_waited_for(tmp_path, make):
    for k, label in enumerate(("cat", "dog")):
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (8, 8), (40 * i, 90 * k, 7)).save(tmp_path / label / f"{i}.png")
    make(tmp_path / "cat" / "x.png")
    with pytest.raises(LearnerError, match="it is a pipe, a socket or a device"):
        data.load_image(tmp_path / "cat" / "x.png")
    ds = data.load(tmp_path, copies="equal")
    assert [p.kind for p in ds.problems if p.path.name == "x.png"] == ["unreadable"]
    assert len(ds.train) + len(ds.val) + len(ds.test) == 10


def test_a_missing_file_a_folder_and_a_text_are_named(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    for path in (tmp_path / "gone.jpg", tmp_path, tmp_path / "notes.jpg"):
        with pytest.raises(LearnerError, match=path.name):
            data.load_image(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own, and all that a person should notice
def test_a_broken_orientation_tag_does_not_cost_the_picture(tmp_path):
    Image.new("RGB", (12, 9), RED).save(tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert data.load_image(tmp_path / "odd.jpg").size == (12, 9)


def test_a_postscript_file_starts_no_other_program(tmp_path):
    (tmp_path / "figure.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    with pytest.raises(LearnerError, match="not an image that can be read"):
        data.load_image(tmp_path / "figure.jpg")


def landscape(width, height):
    """A picture with detail of every size, as photographs have."""
    rng, pixels = np.random.default_rng(0), np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256):
        grid = rng.uniform(0, 255 / cells**0.5, size=(cells, cells, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray((255 * pixels / pixels.max()).astype(np.uint8))


@pytest.mark.parametrize("turned", [1, 6])
def test_a_large_jpeg_comes_back_smaller_and_no_smaller_than_is_enough(tmp_path, turned):
    path, exif = tmp_path / "large.jpg", Image.Exif()
    exif[0x0112] = turned  # 6: the camera was held upright
    landscape(2000, 1200).save(path, quality=92, exif=exif)
    whole = data.load_image(path)
    assert whole.size == ((2000, 1200) if turned == 1 else (1200, 2000))
    for least, times in ((601, 1), (600, 2), (300, 4), (10, 8)):
        small = data.load_image(path, min_side=least)
        assert small.size == (whole.width // times, whole.height // times)
        off = np.asarray(small, int) - np.asarray(whole.resize(small.size, Image.Resampling.BOX))
        assert np.abs(off).mean() < 2


def test_small_jpegs_and_other_formats_are_decoded_whole(tmp_path):
    landscape(1600, 1200).save(tmp_path / "small.jpg")
    landscape(2000, 1000).save(tmp_path / "large.bmp")
    for path in tmp_path.iterdir():
        assert data.load_image(path, min_side=10).tobytes() == data.load_image(path).tobytes()
