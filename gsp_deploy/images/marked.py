"""Pictures that this tool writes, marked as its own, so that `--force` may replace them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gsp_deploy.base.files import replacing
from gsp_deploy.base.origin import MARK


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, or a JPEG where the suffix says so, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(temporary, "JPEG", comment=MARK.encode())
        else:
            told = PngInfo()
            told.add_text("Software", MARK)
            picture.save(temporary, "PNG", pnginfo=told)
