"""Pictures from relevance."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnx_lrp import image
from onnx_lrp.colormaps import CMAPS, palette
from onnx_lrp.errors import InputError
from onnx_lrp.image import atomic_write, channel_sum, contact_sheet, heatmap, imgify, imsave, overlay

BLUE, WHITE, RED = (0, 0, 255), (255, 255, 255), (255, 0, 0)
PAPER = (250, 250, 251)


def rgb(picture):
    return np.asarray(picture.convert("RGB"))


def test_imgify_makes_palette_images():
    picture = imgify(np.array([[-1.0, 0.0, 1.0]]), symmetric=True)
    assert picture.mode == "P"
    assert picture.size == (3, 1)
    assert np.asarray(picture).tolist() == [[0, 128, 255]]
    assert picture.getpalette() == palette("bwr").ravel().tolist()
    assert [tuple(pixel) for pixel in rgb(picture)[0]] == [BLUE, WHITE, RED]


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2, 3, 1), (1, 1, 2, 3)])
def test_imgify_one_channel_shapes(shape):
    picture = imgify(np.arange(6.0).reshape(shape))
    assert picture.size == (3, 2)
    assert np.asarray(picture)[[0, 1], [0, 2]].tolist() == [0, 255]


def test_imgify_bounds():
    values = np.array([[-1.0, 0.0, 3.0]])
    assert np.asarray(imgify(values)).tolist() == [[0, 64, 255]]
    assert np.asarray(imgify(values, vmin=0)).tolist() == [[0, 0, 255]]
    assert np.asarray(imgify(values, vmin=-6, vmax=6)).tolist() == [[106, 128, 192]]
    assert np.asarray(imgify(values, symmetric=True)).tolist() == [[85, 128, 255]]
    assert np.asarray(imgify(values, vmax=1, symmetric=True)).tolist() == [[0, 128, 255]]
    with pytest.raises(InputError, match="vmin"):
        imgify(values, vmin=1, vmax=0)


def test_imgify_level_and_map():
    picture = imgify(np.array([[-1.0, 1.0]]), cmap="000,fff", level=0)
    assert [tuple(pixel) for pixel in rgb(picture)[0]] == [(128, 128, 128)] * 2


@pytest.mark.parametrize("cmap", sorted(CMAPS))
def test_zeros_get_the_centre(cmap):
    for symmetric in (True, False):
        picture = imgify(np.zeros((3, 3)), cmap=cmap, symmetric=symmetric)
        assert np.all(np.asarray(picture) == 128)


def test_uint8_is_taken_as_it_is():
    grey = np.arange(10, 90, dtype=np.uint8).reshape(8, 10)
    assert np.array_equal(rgb(imgify(grey, cmap="gray"))[..., 0], grey)
    photo = np.random.default_rng(0).integers(40, 200, (3, 4, 5), dtype=np.uint8)
    picture = imgify(photo)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), photo.transpose(1, 2, 0))
    assert np.array_equal(np.asarray(imgify(photo.transpose(1, 2, 0))), photo.transpose(1, 2, 0))


def test_imgify_scales_rgb_over_all_channels():
    photo = np.zeros((3, 1, 2))
    photo[0, 0, 0], photo[2, 0, 1] = -1, 1
    assert np.asarray(imgify(photo)).tolist() == [[[0, 128, 128], [128, 128, 255]]]


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (4, 4, 4), (2, 3, 4, 4), (1, 1, 1, 4, 4)])
def test_imgify_wrong_shapes(shape):
    with pytest.raises(InputError, match="1 or 3 channels"):
        imgify(np.zeros(shape))


def test_imgify_counts_what_is_not_finite():
    values = np.zeros((4, 4))
    values[0, :2] = np.nan
    values[3, 3] = -np.inf
    with pytest.raises(InputError, match="3 of 16 values"):
        imgify(values)


def test_grid():
    batch = np.arange(5.0)[:, None, None] + np.zeros((5, 2, 3))
    batch[:, 0, 0] -= 1
    picture = imgify(batch, grid=True)  # 2 rows of 3
    assert picture.size == (9, 4)
    pixels = np.asarray(picture)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = pixels[row * 2 : row * 2 + 2, column * 3 : column * 3 + 3]
        assert tile.tolist() == [[0, 255, 255], [255, 255, 255]]  # each picture has its own bounds
    assert np.all(pixels[2:, 6:] == 128)
    assert imgify(batch, grid=(1, 6)).size == (18, 2)
    assert np.all(np.asarray(imgify(batch, grid=(1, 6), gridfill=7))[:, 15:] == 7)
    shared = np.asarray(imgify(batch, grid=(5, 1), vmin=-1, vmax=4))
    assert shared[1::2, 0].tolist() == [51, 102, 153, 204, 255]


def test_grid_centres_each_picture():
    batch = np.zeros((3, 1, 1, 3))
    batch[0] = [[-1, 0, 1]]
    batch[1] = [[-1000, 0, 500]]
    pixels = np.asarray(imgify(batch, symmetric=True, grid=(3, 1)))
    assert pixels.tolist() == [[0, 128, 255], [0, 128, 192], [128, 128, 128]]


def test_grid_of_rgb():
    batch = np.full((3, 3, 2, 2), 9, dtype=np.uint8)
    assert np.asarray(imgify(batch, grid=True))[3, 3].tolist() == [255, 255, 255]
    assert np.asarray(imgify(batch, grid=True, gridfill=(1, 2, 3)))[3, 3].tolist() == [1, 2, 3]
    assert np.asarray(imgify(batch, grid=True))[0, 0].tolist() == [9, 9, 9]


def test_grid_errors():
    batch = np.zeros((5, 2, 2))
    for grid in ((2, 2), (0, 9), (-1, -5)):
        with pytest.raises(InputError, match="no room for 5"):
            imgify(batch, grid=grid)
    for fill in (-1, 256, (1, 2, 3), 0.5):
        with pytest.raises(InputError, match="gridfill"):
            imgify(batch, grid=True, gridfill=fill)
    with pytest.raises(InputError, match="batch"):
        imgify(np.zeros((2, 2)), grid=True)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif", ".webp", ".jpg"])
def test_imsave(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    values = np.kron(np.array([[-1.0, 0.0, 1.0]]), np.ones((16, 16)))
    imsave(path, values, symmetric=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as picture:
        assert picture.size == (48, 16)
        pixels = rgb(picture).astype(int)
    tolerance = 40 if suffix in {".jpg", ".webp"} else 0
    assert np.abs(pixels[8, [8, 24, 40]] - [BLUE, WHITE, RED]).max() <= tolerance


def test_imsave_keeps_the_palette(tmp_path):
    imsave(tmp_path / "map.png", np.eye(3))
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.mode == "P"


def test_imsave_takes_pictures(tmp_path):
    picture = overlay(np.zeros((4, 4), np.uint8), np.eye(4))
    imsave(str(tmp_path / "MAP.PNG"), picture)
    with Image.open(tmp_path / "MAP.PNG") as read:
        assert np.array_equal(np.asarray(read), np.asarray(picture))


@pytest.mark.parametrize("name", ["map", "map.xyz", "map.txt"])
def test_imsave_unknown_suffix(tmp_path, name):
    with pytest.raises(InputError, match="suffix"):
        imsave(tmp_path / name, np.eye(3))
    assert not list(tmp_path.iterdir())


def test_failed_writes_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_bytes(b"old")

    def fail(self, file, **options):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        imsave(path, np.eye(3))
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]
    assert path.read_bytes() == b"old"
    with pytest.raises(InputError):
        imsave(path, np.full((2, 2), np.nan))
    assert path.read_bytes() == b"old"


def test_atomic_write(tmp_path):
    path = tmp_path / "text"
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    link = tmp_path / "link"
    link.symlink_to(path)
    atomic_write(link, lambda file: file.write(b"newer"))
    assert link.is_symlink()
    assert path.read_bytes() == b"newer"
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "none" / "text", lambda file: file.write(b""))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "text"]


def test_atomic_write_over_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        atomic_write(tmp_path / "folder", lambda file: file.write(b"new"))
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_heatmap():
    relevance = np.array([[-2.0, 0.0, 2.0]])
    picture = heatmap(relevance)
    assert picture.mode == "RGB"
    assert [tuple(pixel) for pixel in rgb(picture)[0]] == [BLUE, WHITE, RED]
    large = heatmap(relevance[None, None], size=(30, 10))
    assert large.size == (30, 10)
    assert [tuple(pixel) for pixel in rgb(large)[5, [0, 9, 10, 19, 20, 29]]] == [BLUE, BLUE, WHITE, WHITE, RED, RED]
    assert [tuple(pixel) for pixel in rgb(heatmap(relevance, "hot"))[0]] == [(0, 0, 0), (0, 0, 0), WHITE]
    assert np.all(rgb(heatmap(np.zeros((2, 2)))) == 255)
    assert heatmap(np.zeros((9, 9)), size=(3, 4)).size == (3, 4)
    with pytest.raises(InputError, match="at least one pixel"):
        heatmap(relevance, size=(0, 3))
    with pytest.raises(InputError, match="channel_sum"):
        heatmap(np.zeros((3, 4, 4)))


def test_heatmap_is_robust_to_an_outlier():
    relevance = np.ones((40, 40))
    relevance[0, 0] = 1e9
    assert tuple(rgb(heatmap(relevance))[5, 5]) == RED
    assert tuple(rgb(heatmap(relevance, percentile=100))[5, 5]) == WHITE


def test_overlay_leaves_pixels_without_relevance_grey():
    photo = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    relevance = np.zeros((20, 20))
    relevance[3, 4], relevance[5, 6], relevance[7, 8] = 1, -1, 0.1
    for cmap in ("bwr", "coldnhot", "viridis"):
        pixels = rgb(overlay(photo, relevance, cmap)).astype(int)
        clear = relevance == 0
        assert np.all(np.ptp(pixels[clear], axis=-1) == 0)
        expected = 105 + np.asarray(Image.fromarray(photo).convert("L")).astype(float) * (248 - 105) / 255
        assert np.abs(pixels[clear][:, 0] - expected[clear]).max() <= 0.5


def test_overlay_covers_more_with_more_relevance():
    photo = np.zeros((2, 4, 3), np.uint8)
    pixels = rgb(overlay(photo, np.array([[0, 0.25, 1, -1.0]] * 2), alpha=1)).astype(int)[0]
    assert tuple(pixels[0]) == (105, 105, 105)
    assert tuple(pixels[2]) == RED
    assert tuple(pixels[3]) == BLUE
    # Half covered by the map's colour for one half.
    assert pixels[1].tolist() == np.rint((palette("bwr")[192].astype(float) + 105) / 2).astype(int).tolist()
    assert np.all(rgb(overlay(photo, np.ones((2, 4)), alpha=0)) == 105)


def test_overlay_is_robust_to_an_outlier():
    relevance = np.full((40, 40), 0.5)
    relevance[0, 0] = -1e9
    assert tuple(rgb(overlay(np.zeros((40, 40), np.uint8), relevance, alpha=1))[9, 9]) == RED


def test_overlay_stretches_relevance():
    photo = Image.new("RGBA", (40, 20), (200, 10, 10, 255))
    picture = overlay(photo, np.array([[1.0, 0.0]]), alpha=1)
    assert (picture.mode, picture.size) == ("RGB", (40, 20))
    pixels = rgb(picture)
    assert tuple(pixels[10, 0]) == RED
    assert np.ptp(pixels[10, 39]) == 0


def test_overlay_of_zeros_and_errors():
    photo = np.linspace(-1, 1, 16).reshape(4, 4)  # numbers other than uint8: black to white
    pixels = rgb(overlay(photo, np.zeros((4, 4))))
    assert pixels[0, 0].tolist() == [105] * 3
    assert pixels[3, 3].tolist() == [248] * 3
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="alpha"):
            overlay(photo, photo, alpha=alpha)
    with pytest.raises(InputError, match="not finite"):
        overlay(photo, np.full((4, 4), np.nan))


def test_contact_sheet():
    tiny = np.array([[-1.0, 1.0], [0.0, 1.0]])
    sheet = contact_sheet([[tiny, None], [np.full((2, 2, 3), 9, np.uint8)]], cell=40, font_size=16)
    pixels = rgb(sheet)
    gap = 12
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * gap + 2 * (40 + gap) + gap, 2 * gap + 2 * (40 + gap) + gap)
    first = pixels[2 * gap : 2 * gap + 40, 2 * gap : 2 * gap + 40]
    assert np.array_equal(first, np.kron(rgb(heatmap(tiny)), np.ones((20, 20, 1), np.uint8)))  # sharp pixels
    assert np.all(pixels[2 * gap : 2 * gap + 40, 3 * gap + 40 :] == PAPER)
    assert np.all(pixels[3 * gap + 40 : 3 * gap + 80, 2 * gap : 2 * gap + 40] == 9)


def test_contact_sheet_texts():
    pictures = [[np.eye(4), np.eye(4)]]
    plain = contact_sheet(pictures)
    for texts in (
        {"title": "Title"},
        {"row_titles": ["ε-rule"]},
        {"column_titles": ["one", "two"]},
        {"captions": [["one", None]]},
    ):
        sheet = contact_sheet(pictures, **texts)
        assert sheet.width * sheet.height > plain.width * plain.height
        dark = np.sum(rgb(sheet).max(-1) < 120)
        assert dark > 30, texts
    assert np.sum(rgb(plain).max(-1) < 120) == 0
    high = contact_sheet(pictures, column_titles=["a title of several words for one column", "two"])
    assert high.height > contact_sheet(pictures, column_titles=["a", "two"]).height  # more lines
    assert high.width == plain.width


def test_contact_sheet_scales_to_one_size():
    wide, tall = Image.new("RGB", (400, 100), RED), Image.new("L", (30, 60))
    pixels = rgb(contact_sheet([[wide, tall]], cell=80))
    assert pixels.shape[:2] == (4 * 12 + 80, 5 * 12 + 2 * 80)  # the widest and the highest picture decide
    red = np.argwhere(np.all(pixels == RED, axis=-1))
    assert (np.ptp(red, axis=0) + 1).tolist() == [20, 80]
    black = np.argwhere(np.all(pixels == 0, axis=-1))
    assert (np.ptp(black, axis=0) + 1).tolist() == [80, 40]


def test_contact_sheet_spells_out_letters():
    class Wide:
        def getlength(self, text):
            return len(text)

    assert image._wrap("LRP-ε γ² café 日", Wide(), 99) == "LRP-epsilon gamma2 cafe ?"
    assert image._wrap("one two three", Wide(), 7) == "one two\nthree"
    assert image._wrap("abcdefgh ij", Wide(), 3) == "abc\ndef\ngh\nij"
    assert image._wrap("", Wide(), 3) == ""


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one picture"),
        ([[]], {}, "at least one picture"),
        ([[np.eye(2)]], {"row_titles": ["a", "b"]}, "2 row titles for 1 rows"),
        ([[np.eye(2)]], {"column_titles": []}, "0 column titles for 1 columns"),
        ([[np.eye(2)]], {"captions": [["a", "b"]]}, "captions"),
        ([[np.eye(2)]], {"cell": 0}, "at least 1"),
        ([[np.zeros((2, 5, 5))]], {}, "channels"),
    ],
)
def test_contact_sheet_errors(rows, options, message):
    with pytest.raises(InputError, match=message):
        contact_sheet(rows, **options)


def test_channel_sum_is_here_too():
    assert channel_sum(np.ones((1, 3, 2, 2))).tolist() == [[[3, 3], [3, 3]]]
