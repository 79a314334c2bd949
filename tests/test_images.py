"""Images are decoded as a person sees them, whatever their mode, depth and orientation; what has no one look is refused in one line."""

import io

import numpy as np
import pytest
from PIL import Image
from test_sources import said

from mmn_jax.vision.images import decode

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
GREY = Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8))


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_keep_their_ramp(kind):
    seen = decode(saved(Image.fromarray(RAMP), kind), "x")
    np.testing.assert_array_equal(seen, np.repeat(np.rint(RAMP / 257).astype(np.uint8)[..., None], 3, 2))
    assert len(np.unique(seen)) == 256 and seen[0, 0].tolist() == [0] * 3 and seen[-1, -1].tolist() == [255] * 3


LOSSLESS = [
    *((mode, "PNG") for mode in ("L", "LA", "P", "RGB", "RGBA")),
    *((mode, "TIFF") for mode in ("L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")),
    ("L", "BMP"),
    ("P", "GIF"),
]


@pytest.mark.parametrize(("mode", "kind"), LOSSLESS)
def test_every_mode_gives_the_picture(mode, kind):
    seen = decode(saved(GREY.convert(mode), kind), "x")
    np.testing.assert_array_equal(seen, np.repeat(np.array(GREY)[..., None], 3, 2))
    assert seen.dtype == np.uint8


def test_two_values_are_black_and_white():
    seen = decode(saved(GREY.convert("1", dither=Image.Dither.NONE), "PNG"), "x")
    np.testing.assert_array_equal(seen[..., 0], np.where(np.array(GREY) > 127, 255, 0))


def see_through(mode):
    """Black, whose left half is transparent."""
    made = Image.new("RGBA", (8, 4), (0, 0, 0, 255))
    made.paste((0, 0, 0, 0), (0, 0, 4, 4))
    return made.convert(mode)


def with_palette():
    made = Image.new("P", (8, 4), 1)
    made.putpalette([0, 0, 0, 0, 0, 0])
    made.paste(0, (0, 0, 4, 4))
    return made


def deep():
    pixels = np.zeros((4, 8), np.uint16)
    pixels[:, :4] = 7
    return Image.fromarray(pixels)


TRANSPARENT = {
    "RGBA": saved(see_through("RGBA"), "PNG"),
    "LA": saved(see_through("LA"), "PNG"),
    "PA": saved(see_through("RGBA").convert("PA"), "TIFF"),
    "a palette with one transparent colour": saved(with_palette(), "PNG", transparency=0),
    "a palette with a transparency for each": saved(with_palette(), "PNG", transparency=bytes([0, 255])),
    "GIF": saved(with_palette(), "GIF", transparency=0),
    "WebP": saved(see_through("RGBA"), "WEBP", lossless=True),
    "16 bits": saved(deep(), "PNG", transparency=7),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_transparency_lies_over_white(case):
    seen = decode(TRANSPARENT[case], "x")
    assert (seen[:, :4] == 255).all() and (seen[:, 4:] == 0).all()


def test_half_transparent_pixels_are_mixed():
    assert decode(saved(Image.new("RGBA", (1, 1), (200, 0, 0, 128)), "PNG"), "x")[0, 0].tolist() == [227, 127, 127]


TURNS = {  # EXIF orientation → what has to be done to what was stored
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_exif_says(orientation, kind):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = decode(saved(Image.fromarray(pixels), kind, exif=exif), "x")
    np.testing.assert_array_equal(seen > 127, TURNS[orientation](pixels) > 127)


def test_16_bits_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = decode(saved(Image.fromarray(RAMP), "PNG", exif=exif), "x")
    np.testing.assert_array_equal(seen[..., 0], np.rot90(np.rint(RAMP / 257), -1))


def test_a_damaged_exif_leaves_the_picture():
    seen = decode(saved(GREY, "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff no tags"), "x")
    np.testing.assert_array_equal(seen[..., 0], np.array(GREY))


@pytest.mark.parametrize(("mode", "told"), [("I", "32-bit integers"), ("F", "floats")])
def test_pixels_without_a_white_are_refused(mode, told):
    message = f"a.tif: its pixels are {told}, whose range is unknown; save it with 8 or 16 bits"
    assert said(lambda: decode(saved(GREY.convert(mode), "TIFF"), "a.tif")) == message


@pytest.mark.parametrize("content", [b"", b"text", saved(GREY, "PNG")[:50], saved(GREY, "TIFF")[:30], saved(GREY, "GIF")[:20]])
def test_damaged_images_are_one_line(content):
    assert said(lambda: decode(content, "a.png")) == "a.png: broken, or not an image"


def test_more_pixels_than_are_decoded_are_one_line(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert said(lambda: decode(saved(GREY, "PNG"), "a.png")) == "a.png: has more pixels than Pillow decodes; make it smaller"
