"""Characters of the glyph collage: classes, their zero-shot split, and distractors.

You can distinguish all of them by eye. At least four of matplotlib's typefaces, with more than one
design, cover each character. If two characters look the same in some typeface (Latin A and Greek
Alpha, O and o, capital and small Cyrillic), only one of them is a class.
`tests/data/test_typefaces.py` measures this.
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

# Characters that are never a class; a model must learn to ignore them.
DISTRACTORS = "24579#%&@?!$€£¥§¶+=*±<>~^"

_TEST_SHARE = 1 / 3


@cache
def class_pool(part: Part) -> tuple[str, ...]:
    """Return the possible classes of a part; a data set with n classes uses the first n.

    A character's part and position depend only on its own hash. So no seed and no number of
    classes can move a test class into training, and adding characters does not change the part
    of others.
    """
    characters = sorted("".join(CLASSES.values()), key=_hash)
    return tuple(c for c in characters if _is_test(c) == (part == "test"))


def class_name(character: str) -> str:
    """Return a character's name in a form that is safe as a folder name.

    >>> class_name("Ж")
    'cyrillic-capital-zhe'
    """
    return unicodedata.name(character).lower().replace(" letter", "").replace(" ", "-")


def _is_test(character: str) -> bool:
    return _hash(character)[0] < 256 * _TEST_SHARE


def _hash(character: str) -> bytes:
    return hashlib.sha256(character.encode()).digest()
