"""Glyphs and the data set made of them: what is drawn, what is dropped, and which families go where."""

import shutil
import unicodedata

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax.errors import BadInput
from mmn_jax.vision import characters, render
from mmn_jax.vision.augment import Strength

QUIET = lambda items, name: items  # noqa: E731 - no progress bar
NONE = {"train": (), "val": (), "test": ()}


def block(width, height):
    """A rectangle on the baseline."""
    pen = TTGlyphPen(None)
    for i, point in enumerate(((100, 0), (100, height), (100 + width, height), (100 + width, 0))):
        (pen.lineTo if i else pen.moveTo)(point)
    pen.closePath()
    return pen.glyph()


def write_font(path, family, shapes):
    """A font file; shapes: character → (width, height) of its rectangle in thousandths of the em."""
    names = {ord(character): f"u{ord(character):X}" for character in shapes}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf({".notdef": block(50, 50)} | {names[ord(c)]: block(*size) for c, size in shapes.items()})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return render.read_font(path)


@pytest.fixture(scope="module")
def shipped():
    return {font.path.stem: font for font in render.find_fonts(render.shipped())}


def test_glyphs_stand_on_one_baseline_at_one_em_in_the_middle(tmp_path):
    font = write_font(tmp_path / "a.ttf", "Blocks", {"A": (400, 700), "B": (400, 350)})
    glyphs = render.draw(font, map(ord, "AB"))
    assert glyphs.dtype == np.uint8 and glyphs.shape == (2, render.SIDE, render.SIDE)
    for glyph, height in zip(glyphs, (0.7, 0.35), strict=True):
        rows, columns = np.flatnonzero(glyph.any(1)), np.flatnonzero(glyph.any(0))
        assert rows[-1] == render.BASELINE - 1 and abs(len(rows) - height * render.EM) < 1
        assert abs(columns[0] + columns[-1] - (render.SIDE - 1)) <= 1 and abs(len(columns) - 0.4 * render.EM) < 1.5


def test_real_letters_are_of_one_size_in_all_fonts_and_descend(shipped):
    heights = [(render.draw(shipped[name], [ord("H")])[0] > 128).any(1).sum() for name in ("DejaVuSans", "DejaVuSerif-Bold", "STIXGeneral")]
    assert max(heights) - min(heights) <= 2
    assert render.draw(shipped["DejaVuSans"], [ord("g")])[0, render.BASELINE + 1 :].any()


def test_what_a_font_lacks_and_placeholders_are_left_out(tmp_path, shipped):
    few = write_font(tmp_path / "few.ttf", "Few", {"A": (400, 700), "C": (300, 500)})
    drawn = render.render((few,), np.arange(ord("A"), ord("F")))
    assert drawn.point.tolist() == [ord("A"), ord("C")] and len(drawn.glyphs) == 2
    assert len(render.render((shipped["LastResortHE-Regular"],), np.arange(0x391, 0x3A2)).point) == 0
    assert ord(" ") not in render.render((shipped["DejaVuSans"],), np.array([ord(" "), ord("a")])).point


def test_of_look_alikes_the_first_is_kept(shipped):
    points = np.array([ord(character) for character in "ABΑАΒDО0Ж"])
    fonts = [shipped[name] for name in ("DejaVuSans", "DejaVuSerif", "STIXGeneral")]
    kept = render.distinct(render.render(fonts, np.sort(points)), points)
    assert "".join(map(chr, kept)) == "0ABDЖО"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_distances_are_those_of_the_definition(seed):
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 6, 6))
    exact = ((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum()) * 2
    found = render.distances(np.array([a, b], np.uint8))
    np.testing.assert_allclose(found, [[0, exact], [exact, 0]], atol=1e-4)


def test_a_test_font_equal_to_a_training_font_loses_its_glyphs(shipped, tmp_path):
    copy = shutil.copy(shipped["DejaVuSans"].path, tmp_path / "copy.ttf")
    fonts = (render.read_font(copy), shipped["DejaVuSans"])
    drawn = render.without_repeats(render.render(fonts, np.array([65, 66])), np.array([2, 0]))
    assert drawn.font.tolist() == [1, 1] and drawn.point.tolist() == [65, 66]


def test_ranges_of_code_points_are_those_with_ink():
    assert "".join(map(chr, render.parse_points("20-24, 41 301 3b1-3b2", ""))) == '!"#$Aαβ'
    for wrong in ("z", "41-40", "110000", "-"):
        with pytest.raises(BadInput, match=r"^fonts: .* is not a range of code points like 21-17F$"):
            render.parse_points(wrong, "fonts")


def named(*families):
    return [render.Font(None, family, np.zeros(0, int)) for family in families]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sampled_from((3, 17)))
def test_drawn_families_keep_relatives_together(seed, families):
    fonts = named(*(f"Family{i} {style}" for i in range(families) for style in ("Sans", "Serif")))
    parts = characters.share_out(fonts, NONE, seed, "fonts").reshape(families, 2)
    assert (parts[:, 0] == parts[:, 1]).all()
    counts = np.bincount(parts[:, 0], minlength=3)
    assert (counts[1:] == [max(1, families // 10), max(1, families * 2 // 10)]).all() and counts[0] > 0
    np.testing.assert_array_equal(parts.reshape(-1), characters.share_out(fonts, NONE, seed, "fonts"))


def test_named_families_go_where_they_are_told():
    fonts = named("A", "B", "C", "D", "C")
    assert characters.share_out(fonts, {**NONE, "val": ("B",), "test": ("C",)}, 0, "").tolist() == [0, 1, 2, 0, 2]
    assert characters.share_out(fonts, {"train": ("A",), "val": ("B",), "test": ("C",)}, 0, "").tolist() == [0, 1, 2, -1, 2]


BAD_FAMILIES = {
    "few": (("A", "B b", "B c"), NONE, "fonts of 2 families (a, b); train, val and test need one each, or name them"),
    "unknown": (("A", "B", "C"), {**NONE, "val": ("X",)}, "no font of the family X; it has A, B, C"),
    "twice": (("A", "B", "C"), {**NONE, "val": ("A",), "test": ("A",)}, "the family A is named twice"),
    "one part": (("A", "B", "C"), {**NONE, "val": ("A",)}, "no family of type for test"),
}


@pytest.mark.parametrize("case", BAD_FAMILIES)
def test_families_that_cannot_be_shared_out_give_one_line(case):
    families, wanted, message = BAD_FAMILIES[case]
    with pytest.raises(BadInput) as caught:
        characters.share_out(named(*families), wanted, 0, "fonts")
    assert str(caught.value) == f"fonts: {message}"


def choice(**changes):
    made = characters.Choice("21-7E 391-3C9", 12, 10, (6, 3, 2), Strength(), characters.SHIPPED, 0)
    return made._replace(**changes)


@pytest.fixture(scope="module")
def letters(shipped):
    return characters.make("letters", tuple(shipped.values()), choice(), "fonts", QUIET)


def test_letters_and_base_are_of_different_characters_and_families(letters, shipped):
    images, base = letters
    assert [np.bincount(part.y).tolist() for part in images[1:4]] == [[6] * 12, [3] * 12, [2] * 12]
    assert images.train.load(0).shape == (render.SIDE, render.SIDE, 3) and len(set(images.class_names)) == 12
    assert len(np.unique(base.y)) == 10 and np.bincount(base.y).max() <= 8  # of the eight training fonts
    drawn = render.render([shipped["DejaVuSans"]], np.array([ord(c) for c in map(unicodedata.lookup, images.class_names)]))
    near = ((drawn.glyphs[:, None].astype(int) - base.x[None]) ** 2).sum((2, 3)).min(1)
    assert (near > 0).all()


def test_the_same_choice_gives_the_same_images(letters, shipped):
    fonts = tuple(shipped.values())
    again = characters.make("letters", fonts, choice(), "fonts", QUIET)
    assert again.images.class_names == letters.images.class_names
    np.testing.assert_array_equal(again.images.test.load(5), letters.images.test.load(5))
    np.testing.assert_array_equal(again.base.x, letters.base.x)


def test_without_distortion_no_rendering_comes_twice(shipped):
    images = characters.make("letters", tuple(shipped.values()), choice(strength=Strength(0, 0, 0, 0, 0)), "fonts", QUIET).images
    assert np.bincount(images.train.y).max() <= 6 and np.bincount(images.test.y).max() <= 2
    train = np.array([images.train.load(i)[..., 0].tobytes() for i in range(len(images.train.y))])
    test = np.array([images.test.load(i)[..., 0].tobytes() for i in range(len(images.test.y))])
    assert len(np.unique(train)) == len(train) and not set(train.tolist()) & set(test.tolist())


def test_folders_without_fonts_and_damaged_fonts_give_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"/none: no such folder of fonts$"):
        render.find_fonts(tmp_path / "none")
    with pytest.raises(BadInput, match=r": no fonts in it \(\.ttf, \.otf\)$"):
        render.find_fonts(tmp_path)
    (tmp_path / "broken.ttf").write_bytes(b"no font at all")
    with pytest.raises(BadInput, match=r"/broken\.ttf: not a font, or damaged$"):
        render.find_fonts(tmp_path)


def test_fonts_that_share_no_letters_give_one_line(tmp_path):
    for i, family in enumerate("abc"):
        write_font(tmp_path / f"{family}.ttf", family, {"ABC"[i]: (400, 700)})
    with pytest.raises(BadInput, match=r"^here: 0 letters that the fonts of train, val and test all have"):
        characters.make("letters", render.find_fonts(tmp_path), choice(families=NONE), "here", QUIET)
