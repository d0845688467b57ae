"""Find emoji drawings of several vendors in a folder of installed npm packages.

Nothing is downloaded: `npm install` puts the packages there. Each vendor draws the same characters,
and the file's name is the character's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from gsp_deploy.errors import ConfigError, DataError, MissingCapabilityError, reason_of

_PRESENTATION = "fe0f"  # the code that asks for the coloured form of a character


@dataclass(frozen=True)
class Package:
    """An npm package of drawings: its name, and the files' folder and type in it."""

    name: str
    folder: str
    suffix: str


# The licences of the drawings are not those of the packages; see models/README.md.
PACKAGES = {
    "google": Package("emoji-datasource-google", "img/google/64", ".png"),
    "twitter": Package("emoji-datasource-twitter", "img/twitter/64", ".png"),
    "microsoft": Package("@lobehub/fluent-emoji-3d", "assets", ".webp"),
    "apple": Package("emoji-datasource-apple", "img/apple/64", ".png"),
    "facebook": Package("emoji-datasource-facebook", "img/facebook/64", ".png"),
}


@dataclass(frozen=True)
class VendorDrawings:
    """One vendor's drawings: the package's version, and the file of each character's code."""

    vendor: str
    version: str
    files: dict[str, Path]


def vendors_of(text: str) -> tuple[str, ...]:
    """Return the vendors in a text such as `google+twitter`.

    Raises:
        ConfigError: a vendor is unknown or occurs twice, or there are fewer than two.

    >>> vendors_of("google+twitter")
    ('google', 'twitter')
    """
    vendors = tuple(text.split("+"))
    if len(vendors) < 2 or len(set(vendors)) < len(vendors) or not set(vendors) <= set(PACKAGES):
        raise ConfigError(
            f"vendors must be at least two different ones of {', '.join(PACKAGES)}, joined by +, "
            f"got {text!r}"
        )
    return vendors


@lru_cache(maxsize=4)
def find_drawings(folder: str, vendors: tuple[str, ...]) -> tuple[VendorDrawings, ...]:
    """Return the drawings of vendors from their packages in a folder.

    Raises:
        MissingCapabilityError: a package is not in the folder; the message has npm's command.
        DataError: a package has no drawings, or its package.json is damaged.
    """
    root = Path(folder)
    missing = [v for v in vendors if not (root / PACKAGES[v].name / "package.json").is_file()]
    if missing:
        names = " ".join(PACKAGES[vendor].name for vendor in missing)
        raise MissingCapabilityError(
            f"{folder} lacks the emoji of {', '.join(missing)}; install them in its parent with: "
            f"npm install --ignore-scripts {names}, or pass another folder: emoji:path=FOLDER"
        )
    return tuple(_of_vendor(root, vendor) for vendor in vendors)


@lru_cache(maxsize=8192)
def drawing(file: Path) -> Image.Image:
    """Return a drawing cropped to its visible part, RGBA.

    Raises:
        DataError: the file cannot be decoded, or it is transparent all over.
    """
    try:
        with Image.open(file, formats=("PNG", "WEBP")) as image:
            pixels = image.convert("RGBA")
    except Exception as error:  # a damaged file can raise any type in Pillow's parsers
        raise DataError(f"{file}: damaged image ({reason_of(error)}); reinstall it") from error
    box = pixels.getchannel("A").getbbox()
    if box is None:
        raise DataError(f"{file}: expected a drawing, got a transparent image; reinstall it")
    return pixels.crop(box)


def _of_vendor(root: Path, vendor: str) -> VendorDrawings:
    package = PACKAGES[vendor]
    files = dict(sorted(_single_characters(root / package.name / package.folder, package.suffix)))
    if not files:
        raise DataError(
            f"{root / package.name}: expected drawings such as {package.folder}/1f600"
            f"{package.suffix}, found none; reinstall {package.name}"
        )
    return VendorDrawings(vendor, _version(root / package.name / "package.json"), files)


def _single_characters(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """Yield the code and file of each drawing of one character.

    Sequences are left out: flags, skin tones, and a person's variants differ too little.
    """
    for file in folder.glob(f"*{suffix}"):
        codes = file.stem.lower().split("-")
        if codes[1:] in ([], [_PRESENTATION]):
            yield codes[0], file


def _version(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: expected npm's description with a version ({reason_of(error)}); reinstall "
            "the package"
        ) from error
