"""Open a data set from a spec such as `cub:PATH` or `glyphs:clutter=5`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_type_hints

from gsp_deploy.base.platforms import install_line
from gsp_deploy.data.benchmarks import (
    IN_SHOP_RANKS,
    PRODUCT_RANKS,
    read_cub,
    read_in_shop,
    read_products,
)
from gsp_deploy.data.cars import read_cars
from gsp_deploy.data.folders import read_csv, read_folder
from gsp_deploy.data.images import STANDARD_RANKS, Dataset
from gsp_deploy.errors import MissingCapabilityError, UsageError

if TYPE_CHECKING:
    from gsp_deploy.data.collage import CollageSettings

Settings = TypeVar("Settings", bound="CollageSettings")


@dataclass(frozen=True)
class DatasetKind:
    """One kind of data set: the form of its spec, a description, and what you must install."""

    name: str
    form: str
    description: str
    needs: str
    recall_ranks: tuple[int, ...] = STANDARD_RANKS


KINDS = (
    DatasetKind(
        "glyphs",
        "glyphs[:clutter=3,size=112,scale=0.35,images_per_class=40,seed=0,"
        "train_classes=300,test_classes=150]",
        "built in: a character among distractors on a photograph; other characters test",
        "nothing beyond the train extra",
    ),
    DatasetKind(
        "fashion",
        "fashion[:clutter=3,size=112,scale=0.35,images_per_class=400,seed=0,path=FOLDER]",
        "built in: a piece of clothing among digits and textures; other kinds test",
        "Debian's dataset-fashion-mnist (sudo apt-get install dataset-fashion-mnist)",
    ),
    DatasetKind(
        "emoji",
        "emoji[:clutter=3,size=112,scale=0.35,images_per_class=40,seed=0,"
        "train_classes=600,test_classes=300,vendors=google+twitter+microsoft,path=FOLDER]",
        "an emoji in several vendors' drawings among others on a photograph; other emoji test",
        "npm install --ignore-scripts emoji-datasource-google emoji-datasource-twitter "
        "@lobehub/fluent-emoji-3d (path: their node_modules)",
    ),
    DatasetKind("cub", "cub:PATH", "CUB-200-2011, classes 1-100 train", "CUB_200_2011/"),
    DatasetKind(
        "cars",
        "cars:PATH",
        "Cars196, classes 1-98 train",
        "cars_annos.mat and car_ims/, or cars_train/, cars_test/ and devkit/; scipy",
    ),
    DatasetKind(
        "sop",
        "sop:PATH",
        "Stanford Online Products",
        "Stanford_Online_Products/",
        PRODUCT_RANKS,
    ),
    DatasetKind(
        "inshop",
        "inshop:PATH",
        "In-Shop Clothes Retrieval, queries against a gallery",
        "Eval/list_eval_partition.txt and Img/img/",
        IN_SHOP_RANKS,
    ),
    DatasetKind(
        "folder",
        "folder:PATH (or just PATH)",
        "a folder per class; without train/ and test/, half of the classes train",
        "a folder of images",
    ),
    DatasetKind(
        "csv",
        "csv:FILE (or just FILE)",
        "a table with the columns path,label,split",
        "the CSV file and its images",
    ),
)


def open_dataset(spec: str, *, strict: bool = True) -> Dataset:
    """Open a data set by its spec; `KINDS` lists the forms. A plain path is a folder or a CSV file.

    If listed images are missing, this raises; with `strict=False` they are left out and noted.

    Raises:
        UsageError: the spec, or an option of a built-in set, is unknown.
        DataError: the files do not have the kind's layout.
        MissingCapabilityError: a built-in set needs a package that is not installed.
    """
    kind, _, rest = spec.partition(":")
    if kind in _BUILT_IN:
        return _BUILT_IN[kind](rest)
    if kind in _READERS:
        if not rest:
            raise UsageError(f"{kind} needs the path of the data: {kind}:PATH")
        return _READERS[kind](Path(rest), strict)
    path = Path(spec)
    if spec and path.exists():
        return _READERS["folder" if path.is_dir() else "csv"](path, strict)
    raise UsageError(
        f"no data set {spec!r}: expected an existing path or one of "
        f"{', '.join(kind.form.split('[')[0].split(' ')[0] for kind in KINDS)}"
    )


def kind_of(spec: str) -> str:
    """Return the name of a spec's kind without opening anything.

    >>> kind_of("cub:data/CUB_200_2011"), kind_of("photos"), kind_of("list.csv")
    ('cub', 'folder', 'csv')
    """
    kind = spec.partition(":")[0]
    if kind in {known.name for known in KINDS}:
        return kind
    return "csv" if Path(spec).suffix.lower() == ".csv" else "folder"


def path_of(spec: str) -> Path | None:
    """Return the path in a spec `KIND:PATH`; None for a built-in kind or a plain path.

    >>> path_of("cub:data").name
    'data'
    """
    kind, _, rest = spec.partition(":")
    return Path(rest) if kind in _READERS and rest else None


def _open_glyphs(options: str) -> Dataset:
    with _optional_packages():
        from gsp_deploy.data.glyphs import GlyphSettings, glyph_dataset
    return glyph_dataset(_settings(GlyphSettings, "glyphs", options))


def _open_fashion(options: str) -> Dataset:
    with _optional_packages():
        from gsp_deploy.data.fashion import FashionSettings, fashion_dataset
    return fashion_dataset(_settings(FashionSettings, "fashion", options))


def _open_emoji(options: str) -> Dataset:
    with _optional_packages():
        from gsp_deploy.data.emoji import EmojiSettings, emoji_dataset
    return emoji_dataset(_settings(EmojiSettings, "emoji", options))


_BUILT_IN: dict[str, Callable[[str], Dataset]] = {
    "glyphs": _open_glyphs,
    "fashion": _open_fashion,
    "emoji": _open_emoji,
}
_READERS: dict[str, Callable[[Path, bool], Dataset]] = {
    "cub": lambda path, strict: read_cub(path, strict=strict),
    "cars": lambda path, strict: read_cars(path, strict=strict),
    "sop": lambda path, strict: read_products(path, strict=strict),
    "inshop": lambda path, strict: read_in_shop(path, strict=strict),
    "folder": lambda path, strict: read_folder(path),
    "csv": lambda path, strict: read_csv(path, strict=strict),
}


def _settings(cls: type[Settings], kind: str, options: str) -> Settings:
    """Build settings from `name=value,name=value`, with each value in its field's type."""
    types = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    values = {}
    for option in filter(None, options.split(",")):
        name, equals, text = option.partition("=")
        if name not in known or not equals:
            raise UsageError(
                f"{kind} has no option {option!r}; expected name=value with a name of "
                f"{', '.join(known)}"
            )
        try:
            values[name] = types[name](text)
        except ValueError as error:
            wanted = {int: "a whole number", float: "a number"}[types[name]]
            raise UsageError(f"{kind}: {name} must be {wanted}, got {text!r}") from error
    return cls(**values)


@contextmanager
def _optional_packages() -> Iterator[None]:
    """Turn a missing package into a `MissingCapabilityError`; only some data sets need it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            f"this data set needs the package {error.name}, which is not installed; "
            f"install it with: {install_line('train')}"
        ) from error
