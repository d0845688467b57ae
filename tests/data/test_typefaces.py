"""Each typeface can draw every class that it covers, and no two look the same."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from gsp_deploy.data.characters import CLASSES, DISTRACTORS, class_name, class_pool
from gsp_deploy.data.typefaces import TYPEFACES, glyph, typefaces_of

EXTENT, BOX = 28, 32
# Correlation of two size-normalised, slightly blurred glyphs. Latin and Cyrillic A reach 1.0,
# O and o 0.95; V and the nabla, which you can distinguish, 0.83.
SAME_TYPEFACE_LIMIT = 0.905
DISTRACTOR_LIMIT = 0.90  # in any two typefaces: a class must never pass for clutter

CHARACTERS = "".join(CLASSES.values())


def appearance(character: str, typeface: str) -> np.ndarray:
    """Return a glyph fitted into a box, as a vector of zero mean and unit length."""
    ink = glyph(character, typeface, EXTENT)
    box = Image.new("L", (BOX, BOX))
    box.paste(ink, ((BOX - ink.width) // 2, (BOX - ink.height) // 2))
    values = np.asarray(box.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64).ravel()
    values -= values.mean()
    return values / np.linalg.norm(values)


@cache
def appearances(characters: str) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return (character, typeface) of every drawing, and the drawings."""
    keys = [(c, typeface) for c in characters for typeface in typefaces_of(c)]
    return keys, np.stack([appearance(*key) for key in keys])


def test_there_are_several_hundred_classes_and_none_is_listed_twice() -> None:
    assert len(CHARACTERS) == len(set(CHARACTERS)) > 400
    assert not set(CHARACTERS) & set(DISTRACTORS)


def test_every_class_exists_in_several_typefaces_of_more_than_one_design() -> None:
    for character in CHARACTERS + DISTRACTORS:
        assert len(typefaces_of(character)) >= 4, character
    keys, drawn = appearances(CHARACTERS)
    by_character = defaultdict(list)
    for (character, _), vector in zip(keys, drawn, strict=True):
        by_character[character].append(vector)
    for character, vectors in by_character.items():
        assert (np.array(vectors) @ vectors[0]).min() < 0.98, f"{character} has one design only"


@pytest.mark.parametrize("typeface", TYPEFACES)
def test_glyphs_are_not_blank_and_fill_their_extent(typeface: str) -> None:
    for character in CHARACTERS + DISTRACTORS:
        if typeface in typefaces_of(character):
            ink = glyph(character, typeface, EXTENT)
            assert max(ink.size) == EXTENT
            assert np.asarray(ink).max() > 128, character
            assert np.asarray(ink).mean() > 8, character


def test_no_class_is_drawn_as_the_box_of_a_missing_glyph() -> None:
    for character in CHARACTERS:
        for typeface in typefaces_of(character):
            if typeface.startswith("DejaVu"):
                absent = appearance("\ue123", typeface)
                assert appearance(character, typeface) @ absent < 0.99, (character, typeface)


@pytest.mark.parametrize("typeface", TYPEFACES)
def test_classes_look_different_in_each_typeface(typeface: str) -> None:
    keys, drawn = appearances(CHARACTERS)
    mine = [i for i, key in enumerate(keys) if key[1] == typeface]
    likeness = drawn[mine] @ drawn[mine].T
    np.fill_diagonal(likeness, 0)
    first, second = np.unravel_index(likeness.argmax(), likeness.shape)
    pair = keys[mine[first]][0] + keys[mine[second]][0]
    assert likeness.max() < SAME_TYPEFACE_LIMIT, f"{pair} look alike in {typeface}"


def test_no_class_looks_like_a_distractor_in_any_typeface() -> None:
    keys, drawn = appearances(CHARACTERS)
    distractors, clutter = appearances(DISTRACTORS)
    likeness = drawn @ clutter.T
    first, second = np.unravel_index(likeness.argmax(), likeness.shape)
    assert likeness.max() < DISTRACTOR_LIMIT, f"{keys[first]} and {distractors[second]}"


def test_the_measure_finds_look_alikes() -> None:
    for pair in ("oO", "AА", "oо", "sS", "xX", "l|"):
        one, other = (appearance(character, "DejaVuSans") for character in pair)
        assert one @ other > SAME_TYPEFACE_LIMIT, pair


def test_small_cyrillic_is_not_set_in_italics_that_change_its_letters() -> None:
    assert "STIXGeneralItalic" in typefaces_of("d")
    assert not [face for face in typefaces_of("ь") if face.endswith("Italic")]
    assert "cmr10" in typefaces_of("A")
    assert "cmr10" not in typefaces_of("<")


def test_the_zero_shot_split_is_disjoint_and_stays_as_published() -> None:
    train, test = class_pool("train"), class_pool("test")
    assert not set(train) & set(test)
    assert set(train) | set(test) == set(CHARACTERS)
    assert min(len(train) - 300, len(test) - 150) >= 0
    # A checkpoint's "unseen" classes stay unseen only as long as these do not change.
    assert "".join(test[:6]) == "Ⴅჯ⚜⍹♋ℍ"
    assert "".join(train[:6]) == "ϦҲѨ₸☍℀"


def test_class_names_are_unique_safe_and_plain_ascii() -> None:
    names = [class_name(character) for character in CHARACTERS]
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isascii() and not set(name) & set('/\\:*?"<>| .') for name in names)
    assert class_name("Ж") == "cyrillic-capital-zhe"
