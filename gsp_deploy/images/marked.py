"""Save pictures with a mark of gsp-deploy, so that `--force` may replace them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gsp_deploy.base.files import replacing
from gsp_deploy.base.origin import MARK


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, or a JPEG if the suffix is `.jpg` or `.jpeg`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(temporary, "JPEG", comment=MARK.encode())
        else:
            texts = PngInfo()
            texts.add_text("Software", MARK)
            picture.save(temporary, "PNG", pnginfo=texts)
