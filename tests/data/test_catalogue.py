from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gsp_deploy.data import KINDS, open_dataset
from gsp_deploy.data.catalogue import _BUILT_IN, _READERS
from gsp_deploy.data.emoji import EmojiSettings
from gsp_deploy.data.fashion import FashionSettings
from gsp_deploy.data.glyphs import GlyphSettings
from gsp_deploy.errors import ConfigError, DataError, UsageError


def test_every_kind_that_is_listed_can_be_opened_and_the_reverse() -> None:
    assert {kind.name for kind in KINDS} == set(_BUILT_IN) | set(_READERS)


@pytest.mark.parametrize("cls", [GlyphSettings, FashionSettings, EmojiSettings])
def test_the_listed_options_are_the_real_ones_with_their_defaults(cls: type) -> None:
    (form,) = [k.form for k in KINDS if cls.__name__.lower().startswith(k.name.rstrip("s"))]
    listed = dict(re.findall(r"(\w+)=([^,\]]+)", form))
    settings = cls()
    assert set(listed) == set(settings.__dataclass_fields__)
    for name, text in listed.items():
        if text != "FOLDER":
            assert str(getattr(settings, name)) == text


def test_options_of_a_built_in_set() -> None:
    dataset = open_dataset("glyphs:clutter=0,scale=0.5,seed=3,train_classes=4")
    parameters = dataset.train.source.parameters
    assert (parameters["clutter"], parameters["scale"], parameters["seed"]) == (0, 0.5, 3)
    assert dataset.train.num_classes == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("glyphs:colour=red", "glyphs has no option 'colour=red'; expected .* clutter, size"),
        ("glyphs:clutter", "glyphs has no option 'clutter'; expected name=value"),
        ("glyphs:clutter=many", "clutter must be a whole number, got 'many'"),
        ("glyphs:scale=big", "scale must be a number, got 'big'"),
        ("cub:", "cub needs the path of the data: cub:PATH"),
        ("inshop", "inshop needs the path"),
        ("imagenet:/x", "no data set 'imagenet:/x': expected an existing path or one of glyphs"),
        ("", "no data set ''"),
        ("/no/such/folder", "no data set '/no/such/folder'"),
    ],
)
def test_a_spec_that_means_nothing_says_what_would(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(spec)


def test_a_value_out_of_range_is_refused_as_such() -> None:
    with pytest.raises(ConfigError, match="seed must be from 0"):
        open_dataset("glyphs:seed=-1")


@pytest.mark.parametrize("kind", sorted(_READERS))
def test_a_place_that_does_not_exist_is_named(kind: str) -> None:
    with pytest.raises(DataError, match="/no/such/place"):
        open_dataset(f"{kind}:/no/such/place")


def test_an_existing_path_is_a_folder_or_a_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder per class"):
        open_dataset(str(tmp_path))
    table = tmp_path / "images, with:odd=name.csv"
    table.write_text("path,label\n")
    with pytest.raises(DataError, match="no image is listed"):
        open_dataset(str(table))
    with pytest.raises(DataError, match="no image is listed"):
        open_dataset(f"csv:{table}")


def test_reading_files_needs_neither_torch_nor_the_packages_of_the_built_in_sets() -> None:
    code = (
        "import sys, gsp_deploy.data\n"
        "heavy = {'torch', 'matplotlib', 'skimage', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from gsp_deploy.data import open_dataset\n"
        "from gsp_deploy.errors import MissingCapabilityError\n"
        "try:\n"
        "    open_dataset('glyphs')\n"
        "except MissingCapabilityError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "needs the package matplotlib" in done.stdout
    assert "pip install 'gsp-deploy[train]'" in done.stdout
