"""Embed pictures in an HTML page, so that the page needs no other file."""

from __future__ import annotations

import base64
import io

from PIL import Image


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG in a `data:` address."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
