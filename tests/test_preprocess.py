"""From picture files to inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from onnx_lrp.errors import InputError
from onnx_lrp.preprocess import PRESETS, Preprocess, find

RNG = np.random.default_rng(0)
NCHW = (1, 3, 224, 224)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def photo():
    return Image.fromarray(noise(300, 400, 3))


# numbers --------------------------------------------------------------------------------------------------------------


def test_imagenet_equals_the_usual_formula():
    pixels = noise(224, 224, 3)
    x = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).fit(NCHW)(Image.fromarray(pixels))
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert x.dtype == np.float32
    assert x.shape == NCHW
    assert x.flags.c_contiguous
    np.testing.assert_allclose(x[0].transpose(1, 2, 0), expected, rtol=1e-6)


def test_imagenet_resizes_and_crops_as_usual(photo):
    resized = photo.resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((58, 16, 58 + 224, 16 + 224)))
    fitted = PRESETS["imagenet"].fit(NCHW)
    np.testing.assert_array_equal(np.asarray(fitted.displayed(photo)), expected)


def test_caffe_is_bgr_less_the_mean(photo):
    fitted = PRESETS["caffe"].fit(NCHW)
    seen = np.asarray(fitted.displayed(photo)).astype(np.float32)
    np.testing.assert_array_equal(fitted(photo)[0], seen[..., ::-1].transpose(2, 0, 1) - np.float32([104, 117, 123])[:, None, None])


@pytest.mark.parametrize(("name", "low", "high"), [("tf", -1, 1), ("unit", 0, 1), ("none", 0, 255)])
def test_simple_presets(name, low, high):
    fitted = PRESETS[name].fit((1, 2, 2, 3))
    x = fitted(Image.fromarray(np.uint8([[[0, 255, 0]] * 2] * 2)))
    assert x.shape == (1, 2, 2, 3)
    np.testing.assert_array_equal(x[0, 0, 0], np.float32([low, high, low]))
    np.testing.assert_array_equal(fitted.low(), np.full((1, 1, 3), low, np.float32))
    np.testing.assert_array_equal(fitted.high(), np.full((1, 1, 3), high, np.float32))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8, 3), (1, 1, 8, 8), (1, 8, 8, 1), (1, 4, 8, 8)])
def test_bounds_are_those_of_black_and_white(name, shape):
    fitted = PRESETS[name].fit(shape)
    black, white = (fitted(Image.new("RGB", (9, 9), colour)) for colour in ("black", "white"))
    assert white.shape == shape
    axis = 1 if fitted.layout == "NCHW" else 3
    assert fitted.low().shape == tuple(1 if i != axis else shape[axis] for i in (1, 2, 3))
    colours = [slice(None)] * 3
    colours[axis - 1] = slice(3)  # the fourth is opacity
    np.testing.assert_array_equal((np.zeros(shape[1:]) + fitted.low())[*colours], black[0][*colours])
    np.testing.assert_array_equal((np.zeros(shape[1:]) + fitted.high())[*colours], white[0][*colours])


def test_bounds_of_a_negative():
    fitted = Preprocess(scale=-1 / 255, mean=-1.0).fit((1, 1, 4, 4))
    assert fitted.low().item() == 0
    assert fitted.high().item() == 1
    assert fitted(Image.new("L", (4, 4), 255)).max() == 0


def test_grey_models_get_the_mean_of_the_colours_statistics():
    fitted = PRESETS["imagenet"].fit((1, 1, 4, 4))
    assert fitted.channels == "GRAY"
    assert fitted(Image.new("RGB", (4, 4), "white"))[0, 0, 0, 0] == pytest.approx((1 - 0.449) / 0.226)
    assert fitted.displayed(Image.new("RGB", (4, 4))).mode == "L"


def test_grey_pictures_for_colour_models():
    x = Preprocess(channels="GRAY").fit((1, 3, 4, 4))(Image.fromarray(noise(4, 4, 3)))
    assert x.shape == (1, 3, 4, 4)
    np.testing.assert_array_equal(x[0, 0], x[0, 2])


# sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "crop", "layout", "channels"),
    [
        ("imagenet", (None, 3, 32, 32), (32, 32), "NCHW", "RGB"),
        ("imagenet", ("N", 3, "h", "w"), (224, 224), "NCHW", "RGB"),
        ("imagenet", ("N", None, None, 3), (224, 224), "NHWC", "RGB"),
        ("imagenet", None, (224, 224), "NCHW", "RGB"),
        ("caffe", (1, 227, 227, 3), (227, 227), "NHWC", "BGR"),
        ("tf", (1, 299, 299, 3), (299, 299), "NHWC", "RGB"),
        ("tf", (1, 3, None, None), None, "NCHW", "RGB"),
        ("unit", (1, 28, 28, 1), (28, 28), "NHWC", "GRAY"),
        ("unit", (1, 1, 28, None), (28, 28), "NCHW", "GRAY"),
    ],
)
def test_fit(name, shape, crop, layout, channels):
    fitted = PRESETS[name].fit(shape)
    assert (fitted.crop, fitted.layout, fitted.channels) == (crop, layout, channels)


def test_other_sizes_keep_the_margin(photo):
    expected = photo.resize((int(400 * 32 * 256 / 224 / 300), 36), Image.Resampling.BILINEAR)
    left = round((expected.width - 32) / 2)
    seen = PRESETS["imagenet"].fit((1, 3, 32, 32)).displayed(photo)
    np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected.crop((left, 2, left + 32, 34))))


@pytest.mark.parametrize("size", [(32, 32), (10, 300), (300, 10), (1, 1), (1000, 7)])
def test_any_picture_fills_the_model(size):
    for shape in ((1, 3, 32, 32), (1, 3, 20, 70), (1, 3, 224, 224)):
        for preprocess in (*PRESETS.values(), Preprocess(resize=4), Preprocess(resize=(80, 90))):
            assert preprocess.fit(shape)(Image.new("RGB", size)).shape == shape


def test_pictures_of_the_models_size_stay_as_they_are():
    pixels = noise(28, 28)
    np.testing.assert_array_equal(PRESETS["none"].fit((1, 1, 28, 28))(Image.fromarray(pixels))[0, 0], pixels)


def test_models_of_any_size_get_the_whole_picture(photo):
    assert PRESETS["unit"].fit((1, 3, "h", "w"))(photo).shape == (1, 3, 300, 400)
    assert Preprocess(resize=150).fit((1, 3, "h", "w"))(photo).shape == (1, 3, 150, 200)
    assert Preprocess(resize=(60, 50)).fit((1, 3, "h", "w"))(photo).shape == (1, 3, 60, 50)
    assert Preprocess(crop=(60, 50)).fit((1, 3, "h", "w"))(photo).shape == (1, 3, 60, 50)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((1, 9), None, "does not take pictures"),
        ((1, 2, 64), None, "does not take pictures"),
        ((1, 7, 8, 9), None, "no axis of its input of shape"),
        ((1, 3, 8, 8), "NHWC", "8 channels"),
    ],
)
def test_models_that_take_no_pictures(shape, layout, message):
    with pytest.raises(InputError, match=message):
        Preprocess(layout=layout).fit(shape)


# presets and files ----------------------------------------------------------------------------------------------------


def test_find(tmp_path):
    assert find("imagenet") is PRESETS["imagenet"]
    with pytest.raises(InputError, match="did you mean 'imagenet'"):
        find("imagenett")
    with pytest.raises(InputError, match="no such file"):
        find(str(tmp_path / "own.json"))


def test_from_file(tmp_path):
    path = tmp_path / "own.json"
    fields = {"resize": 40, "crop": [32, 32], "layout": "NCHW", "channels": "BGR", "scale": 0.5, "mean": [1, 2, 3], "std": 2}
    path.write_text(json.dumps(fields))
    assert find(str(path)) == Preprocess(40, (32, 32), "NCHW", "BGR", 0.5, (1, 2, 3), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[1]", "JSON object"),
        ('{"means": [1, 2, 3]}', "unknown field 'means'; did you mean 'mean'"),
        ('{"count": 3}', "unknown field 'count'"),
        ('{"mean": "x"}', "mean must be a number"),
        ('{"mean": [1, 2]}', "list of 1, 3 or 4"),
        ('{"std": 0}', "std must be a number above 0"),
        ('{"std": NaN}', "std must be"),
        ('{"scale": 0}', "scale must be"),
        ('{"scale": true}', "scale must be"),
        ('{"scale": null}', "scale must be"),
        ('{"crop": 224}', "crop must be a pair"),
        ('{"crop": [0, 1]}', "crop must be a pair"),
        ('{"resize": [1, 2, 3]}', "resize must be a length"),
        ('{"resize": 2.5}', "resize must be a length"),
        ('{"layout": "CHW"}', "layout must be one of NCHW, NHWC"),
        ('{"channels": ["R"]}', "channels must be one of"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        find(str(path))
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "own.json").write_bytes(b"\xff\xfe\x00\xd8")
    for name in ("own.json", "none.json", "."):
        with pytest.raises(InputError):
            Preprocess.from_file(tmp_path / name)


def test_four_means_for_three_channels():
    with pytest.raises(InputError, match="4 values"):
        Preprocess(mean=(1, 2, 3, 4)).fit(NCHW)
    assert Preprocess(mean=(1, 2, 3, 4)).fit((1, 4, 2, 2))(Image.new("RGB", (2, 2)))[0, :, 0, 0].tolist() == [-1, -2, -3, 251]
