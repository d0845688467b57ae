"""Find the first picture of a GIF file in which the length of a comment is wrong.

The length says where the next block begins, so a wrong one hides the picture, or lets decoders take
the comment's text for one.
"""

from __future__ import annotations

import re
import struct
from itertools import islice

SIGNATURES = (b"GIF87a", b"GIF89a")

_SCREEN = 6  # where the screen's width and height are
_HEADER = 13  # bytes of the signature and the screen
_EXTENSION, _PICTURE = b"!", b","
_CONTROL = b"!\xf9\x04"  # the extension that says which colour of the next picture is transparent
_CONTROL_BYTES = 8
_DESCRIPTOR = 10  # bytes of a picture before its colours
_MOST_TRIED = 8  # places that may be a picture; each costs a pass over the file at worst
_NEXT = (b"!", b",", b";", b"")  # what may follow a picture; the last is the end of the file


def without_hiding_comments(content: bytes) -> bytes:
    """Return the file without its comments if one hides the first picture, else the file itself.

    Captions and what applications store are comments here too. If a whole picture on the screen
    begins within them, or if none comes after them, they hide the first such picture.
    """
    if len(content) < _HEADER:
        return content
    at = _HEADER + _colour_bytes(content[_HEADER - 3])
    comments: list[tuple[int, int]] = []  # begin and end
    while content.startswith(_EXTENSION, at):
        begin, at = at, _end_of_blocks(content, at + 2)
        if not content.startswith(_CONTROL, begin):
            comments.append((begin, at))
    if not comments:
        return content
    first, last = comments[0][0], comments[-1][1]
    picture = _first_on_screen(content, first)
    if picture is None or (picture >= last and _is_whole(content, at)):
        return content
    return content[:first] + content[picture:]


def _first_on_screen(content: bytes, start: int) -> int | None:
    """Return where the first whole picture begins, with its control if it has one."""
    places = (start + match.start() for match in re.finditer(_PICTURE, content[start:]))
    on_screen = (place for place in places if _is_on_screen(content, place))
    for place in islice(on_screen, _MOST_TRIED):
        if _is_whole(content, place):
            control = place - _CONTROL_BYTES
            return control if content.startswith(_CONTROL, control) else place
    return None


def _is_whole(content: bytes, at: int) -> bool:
    """Whether a picture begins here whose blocks end before another part of the file."""
    data = at + _DESCRIPTOR
    if not content.startswith(_PICTURE, at) or data > len(content):
        return False
    data += _colour_bytes(content[data - 1])
    end = _end_of_blocks(content, data + 1)
    return end <= len(content) and content[end : end + 1] in _NEXT


def _is_on_screen(content: bytes, at: int) -> bool:
    if at + _DESCRIPTOR > len(content):
        return False
    screen = struct.unpack_from("<HH", content, _SCREEN)
    left, top, width, height = struct.unpack_from("<HHHH", content, at + 1)
    return 0 < width <= screen[0] - left and 0 < height <= screen[1] - top


def _colour_bytes(flags: int) -> int:
    return 3 * 2 << (flags & 7) if flags & 0x80 else 0


def _end_of_blocks(content: bytes, at: int) -> int:
    """Return the place after a chain of blocks, beyond the file if its last block is not there."""
    while at < len(content) and content[at]:
        at += 1 + content[at]
    return at + 1
