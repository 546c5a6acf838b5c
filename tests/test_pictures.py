"""Picture files of every kind."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from onnx_lrp.errors import InputError
from onnx_lrp.preprocess import Preprocess

LOAD = Preprocess().load
RNG = np.random.default_rng(0)


def photo(height=20, width=30):
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 5, columns * 5, rows + columns], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp", "jpg", "ppm", "tga"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    photo().save(path)
    loaded = LOAD(path)
    assert loaded.mode == "RGB"
    assert loaded.size == (30, 20)
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(photo())).mean() < 10


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "HSV"])
def test_modes(tmp_path, mode):
    path = tmp_path / "photo.tiff"
    original = photo().convert("RGB" if mode == "HSV" else mode)
    original.save(path)
    loaded = LOAD(path)
    assert loaded.mode == ("L" if mode in ("1", "L", "LA") else "RGB")
    reference = np.asarray(original.convert(loaded.mode)).astype(int)
    assert np.abs(np.asarray(loaded).astype(int) - reference).mean() < 3


def test_exif_orientation(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    photo().save(path, exif=exif, quality=100)
    loaded = LOAD(path)
    assert loaded.size == (20, 30)
    assert np.abs(np.asarray(loaded).astype(int) - np.rot90(np.asarray(photo()), -1)).mean() < 5


def test_broken_exif_is_left_alone(tmp_path):
    path = tmp_path / "odd.jpg"
    photo().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40)
    assert LOAD(path).size == (30, 20)


def test_first_picture_of_an_animation(tmp_path):
    for suffix in ("gif", "png", "webp", "tiff"):
        path = tmp_path / f"moving.{suffix}"
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert np.abs(np.asarray(LOAD(path))[0, 0].astype(int) - [255, 0, 0]).max() < 5


def test_transparency_is_white(tmp_path):
    path = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(path)
    assert np.asarray(LOAD(path)).min() == 255
    Image.new("LA", (4, 4), (0, 0)).save(path)
    assert np.asarray(LOAD(path)).min() == 255
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(path)
    assert np.asarray(LOAD(path)).tolist() == [[[204] * 3] * 4] * 4
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(path, transparency=1)
    assert np.asarray(LOAD(path)).min() == 255
    palette.save(path, transparency=b"\xff\xff")
    assert np.asarray(LOAD(path))[0, 0].tolist() == [255, 0, 0]
    Image.new("RGB", (4, 4), "red").save(path, transparency=(255, 0, 0))
    assert np.asarray(LOAD(path)).min() == 255


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    values = np.linspace(0, 65535, 16).reshape(4, 4).astype(np.uint16)
    Image.fromarray(values).save(path)
    loaded = LOAD(path)
    assert loaded.mode == "L"
    np.testing.assert_array_equal(np.asarray(loaded), np.rint(values / 257))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([[0, 0.5, 1]]), [[0, 128, 255]]),
        (np.float32([[0, 100, 255]]), [[0, 100, 255]]),
        (np.float32([[-1, 0, 1]]), [[0, 128, 255]]),
        (np.float32([[0, np.nan, 1]]), [[0, 0, 255]]),
        (np.int32([[0, 65535]]), [[0, 255]]),
        (np.int32([[-100, 100]]), [[0, 255]]),
        (np.int32([[70000, 70000]]), [[0, 0]]),
    ],
)
def test_numbers_beyond_eight_bits(tmp_path, values, expected):
    path = tmp_path / "numbers.tiff"
    Image.fromarray(values).save(path)
    assert np.asarray(LOAD(path)).tolist() == expected


# damage ---------------------------------------------------------------------------------------------------------------


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", RNG.bytes(5000), b"\xff\xd8\xff\xe0"])
def test_no_pictures(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png"):
        LOAD(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_cut_off(tmp_path, kind, share):
    content = encoded(kind)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="cut") as caught:
        LOAD(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes(tmp_path):
    path = tmp_path / "damaged"
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP"):
        content = encoded(kind)
        for _ in range(10):
            damaged = bytearray(content)
            for place in RNG.integers(8, len(content), 12):
                damaged[place] = RNG.integers(256)
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(InputError):  # and no other error
                assert min(LOAD(path).size) > 0


def test_bomb(tmp_path):
    path = tmp_path / "bomb.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0))
    with pytest.raises(InputError, match="too many pixels"):
        LOAD(path)


def test_missing(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        LOAD(tmp_path / "missing.png")
    with pytest.raises(InputError, match="folder"):
        LOAD(tmp_path)
    with pytest.raises(InputError):
        LOAD("a\0b.png")
