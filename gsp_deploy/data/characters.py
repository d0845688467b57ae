"""The characters of the glyph collage: classes, their zero-shot split, and distractors.

Chosen so that they can be told apart by eye: each is covered by at least four of matplotlib's
typefaces with more than one design, and of any pair that looks alike in some typeface (Latin A and
Greek Alpha, O and o, capital and small Cyrillic) only one is here. tests/data/test_typefaces.py
holds the measure.
"""

from __future__ import annotations

import hashlib
import unicodedata
from functools import cache

from gsp_deploy.data.photographs import Part

CLASSES: dict[str, str] = {
    "latin": "ABCDFJKLMNPQRTUVWXZabdefkmqrty",
    "latin-extended": "ÆŒÞßŋƆƐƔƕƜƝƢƣƧƩƷƸƺƾǂȜȢɁɕɖɘɚɞɧɨɮɰɷɸɻʁʂʇʉʊʋʎʏʐʑʘʛʞʢʣʤʦʧʨʩʪ",
    "greek": "ΔΞΠΨαβδζλμϐϖϗϚϞϟϠϡϢϦϧϮϻ",
    "cyrillic": "ДЖЙЛФЦЧЩЪЫЮЯЂЉЊЋҖҘҠҤҨҬҲҴҼӃѠѤѦѨѪѬѮѰѶѸѺѼѾьє",
    "armenian": "ԲԴԶԷԸԹԾԿՀՁՃՇՊՒՔՖըիխկձճմնչջֆ",
    "georgian": "ႠႡႤႥႧႩႪႫႬႰႴႵႸႺႼႽႾႿჁჃჄჅადეთკლრტფქშჩჭჯჲჴ",
    "mathematics": "∅∇∉√∝∞∟∠∢∬∮∾≌≎≏≐≑≗≠≣≤≧≪≫≮≺≼⊂⊃⊅⊆⊈⊊⊌⊏⊔⊕⊗⊞⊥⊨⊩⊫⊶⊸⊻⊼⋄⋇⋈⋋⋌⋏⋑⋒⋔⋚∂∭",
    "arrows": "←↓↝↟↣↨↪↫↯↰↱↲↳↵↷↹↺↼⇄⇅⇏⇓⇚⇛⇟⇡⇢⇥⇦⇪⇬⇰⇱⇲⇳⇶⟲⟳⟴",
    "letterlike": "℀℄℉ℋℌℍℐℑℒ℔№℗℘ℙℚℛℜℝ℞ℤℨℭ℮ℰℱℲℳℵℶℷℸ℺℻ℼℽℾ⅁⅋₠₡₢₧₨₪₯₰₲₴₵₸₹₺¤",
    "technical": "⌂⌆⌐⌑⌕⌘⌥⌧⌬⌶⌾⌿⍀⍓⍤⍥⍪⍮⍲⍶⍹⍽⏎⏏⏥▣▤▥▦▧▨▰▲△▶▼◀◁◈◊",
    "pictograms": "☃☆☈☉☊☋☌☍☎☑☕☖☗☚☛☠☡☥☪☭☼☽☾☿♀♁♂♃♄♆♇♈♉♋♍♎♏♐♣♤♥♩♪♫♭♮⚁⚄⚅⚐⚒⚜⚥✄✉✐✠✪❝❞➛⁂⁋⁌⁍⁜©¿",
}

# Never a class, in neither part: what a model has to learn to ignore.
DISTRACTORS = "24579#%&@?!$€£¥§¶+=*±<>~^"

_TEST_SHARE = 1 / 3


@cache
def class_pool(part: Part) -> tuple[str, ...]:
    """Return the characters that may be classes of a part, the first n of which n classes use.

    A character's part and place follow from its own hash, so no choice of seed or of class counts
    can carry a test class into training, and the pools do not move when characters are added.
    """
    characters = sorted("".join(CLASSES.values()), key=_hash)
    return tuple(c for c in characters if _is_test(c) == (part == "test"))


def class_name(character: str) -> str:
    """Return a name that is safe as a folder's, such as `cyrillic-capital-zhe`."""
    return unicodedata.name(character).lower().replace(" letter", "").replace(" ", "-")


def _is_test(character: str) -> bool:
    return _hash(character)[0] < 256 * _TEST_SHARE


def _hash(character: str) -> bytes:
    return hashlib.sha256(character.encode()).digest()
