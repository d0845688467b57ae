"""JPEG files: every coding and colour, and every order, repetition and damage of segments."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from . import Case
from .encoded import encoded_files
from .metadata import PREFIX, exif_blocks, stated, turn_of, xmp_packets

XMP = b"http://ns.adobe.com/xap/1.0/\0"
SIZES = [(1, 1), (1, 40), (40, 1), (7, 9), (8, 8), (16, 16), (17, 31), (61, 43)]
_START, _END = b"\xff\xd8", b"\xff\xd9"


def drawing(width: int = 21, height: int = 13) -> np.ndarray:
    """Return a smooth drawing with some corners, uint8 `(height, width, 3)`."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([(x * 12) % 256, (y * 19 + x * 3) % 256, (x * y * 5) % 256]).astype(np.uint8)


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment."""
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def encoded(mode: str = "RGB", size: tuple[int, int] = (21, 13), **options: object) -> bytes:
    """Return a file as Pillow writes it."""
    stream = io.BytesIO()
    Image.fromarray(drawing(*size)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def with_segments(content: bytes, *segments: bytes) -> bytes:
    """Return a file with segments right after its start."""
    return content[:2] + b"".join(segments) + content[2:]


def cases() -> Iterator[Case]:
    """Yield every case."""
    yield from _codings()
    yield from _colours()
    yield from _structure()
    yield from _scans()
    yield from _metadata()


def _codings() -> Iterator[Case]:
    for mode in ("L", "RGB", "CMYK"):
        for width, height in SIZES:
            for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
                for progressive in (False, True):
                    name = f"{mode}-{width}x{height}-{subsampling}{'-p' if progressive else ''}.jpg"
                    options = {"subsampling": subsampling, "progressive": progressive}
                    yield Case(name, encoded(mode, (width, height), quality=80, **options))
    for quality in (1, 30, 100):
        yield Case(f"quality-{quality}.jpg", encoded(quality=quality))
    yield Case("optimised.jpg", encoded(optimize=True))
    yield Case("restarts-by-block.jpg", encoded(size=(61, 43), restart_marker_blocks=2))
    yield Case("restarts-by-row.jpg", encoded(size=(61, 43), restart_marker_rows=1))
    for name, content in encoded_files().items():
        yield Case(f"coding-{name}.jpg", content)
    # The frame's marker says what coding it is; these are read by nobody here.
    content = encoded()
    frame = content.index(b"\xff\xc0")
    for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF):
        other = content[:frame] + bytes((0xFF, marker)) + content[frame + 2 :]
        yield Case(f"frame-{marker:02x}.jpg", other, taken=False)
    for marker in (0xC1, 0xC2, 0xC9, 0xCA):
        other = content[:frame] + bytes((0xFF, marker)) + content[frame + 2 :]
        yield Case(f"frame-{marker:02x}.jpg", other, taken=None)
    for bits in (1, 2, 7, 9, 10, 12, 16):
        other = bytearray(content)
        other[frame + 4] = bits
        yield Case(f"bits-{bits}.jpg", bytes(other), taken=False)


def _colours() -> Iterator[Case]:
    for mode in ("L", "RGB", "CMYK"):
        content = encoded(mode)
        bare = _without(content, 0xE0, 0xEE)
        yield Case(f"colour-{mode}-bare.jpg", bare)
        jfif = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
        for transform in (0, 1, 2, 3, 255):
            adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform,)))
            name = f"colour-{mode}-adobe-{transform}"
            yield Case(f"{name}.jpg", with_segments(bare, adobe))
            yield Case(f"{name}-jfif.jpg", with_segments(bare, jfif, adobe))
            yield Case(f"{name}-jfif-after.jpg", with_segments(bare, adobe, jfif))
            other = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((1 - min(transform, 1),)))
            yield Case(f"{name}-twice.jpg", with_segments(bare, adobe, other))
            short = segment(0xEE, b"Adobe\0\x64\0\0\0"), segment(0xE0, b"JFIF\0")
            yield Case(f"{name}-short-others.jpg", with_segments(bare, *short, adobe))
            late = bare.replace(b"\xff\xda", adobe + b"\xff\xda", 1)
            yield Case(f"{name}-late.jpg", late)
        for word, odd in (
            ("adobe", segment(0xEE, b"Adobe")),
            ("adobe-empty", segment(0xEE, b"")),
            ("jfif", segment(0xE0, b"JFIF\0")),
            ("jfif-4", segment(0xE0, b"JFIF")),
            ("jfif-9", segment(0xE0, b"JFIF\0\1\1\1\0")),
            ("jfxx", segment(0xE0, b"JFXX\0\x10")),
        ):
            yield Case(f"colour-{mode}-{word}-short.jpg", with_segments(bare, odd))
        for ids in (b"RGB", b"rgb", b"\0\1\2", b"\1\2\3\4", b"CMYK", b"\5\6\7\x08"):
            yield Case(f"colour-{mode}-ids-{ids.hex()}.jpg", _with_ids(bare, ids))
    two = _frame_of(encoded("L"), 2)
    yield Case("channels-2.jpg", two, taken=False)


def _structure() -> Iterator[Case]:
    content = encoded()
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    for place, word in ((2, "first"), (frame, "before-frame"), (scan, "before-scan")):
        for extra, name in (
            (b"rubbish", "rubbish"),
            (b"\xff" * 9, "fill"),
            (b"\0\0\xff\0\0", "escaped"),
            (b"\xff\x01", "tem"),
            (b"\xff\xd3", "restart"),
            (segment(0xFE, b"comment"), "comment"),
            (segment(0xFE, b""), "comment-empty"),
            (b"\xff\xfe\0\1", "comment-length-1"),
            (b"\xff\xe5\0\0", "app-length-0"),
            (segment(0xDC, b"\0\x0d"), "lines"),
        ):
            if (place, name) == (2, "rubbish"):
                continue  # three bytes that begin no JPEG
            taken = None if (place, name) == (2, "escaped") else True
            other = content[:place] + extra + content[place:]
            yield Case(f"between-{word}-{name}.jpg", other, taken=taken)
        for marker in (0x02, 0x4F, 0xBF, 0xDE, 0xDF, 0xF0, 0xF7, 0xFD):
            other = content[:place] + segment(marker, b"abc") + content[place:]
            yield Case(f"between-{word}-{marker:02x}.jpg", other, taken=False)
        other = content[:place] + _START + content[place:]
        yield Case(f"between-{word}-start.jpg", other, taken=False)
        other = content[:place] + _END + content[place:]
        yield Case(f"between-{word}-end.jpg", other, taken=False)
        yield Case(f"cut-{word}.jpg", content[:place], taken=False)
    size = frame + 5
    for height, width in ((0, 21), (13, 0), (65535, 65535)):
        other = content[:size] + height.to_bytes(2, "big") + width.to_bytes(2, "big")
        other += content[size + 4 :]
        yield Case(f"size-{width}x{height}.jpg", other, taken=False)
    whole_frame = content[frame : frame + 19]
    yield Case("frame-twice.jpg", content[:frame] + whole_frame + content[frame:], taken=False)
    yield Case("frame-none.jpg", content[:frame] + content[frame + 19 :], taken=False)
    yield Case("frame-after-scan.jpg", content[:-2] + whole_frame + _END)
    longer = segment(0xC0, whole_frame[4:] + b"\0")
    yield Case("frame-long.jpg", content[:frame] + longer + content[frame + 19 :], taken=False)
    yield Case(
        "frame-short.jpg", content[:frame] + segment(0xC0, b"\x08\0") + content[scan:], False
    )
    for marker, name in ((0xDB, "quantisation"), (0xC4, "codes")):
        yield Case(f"no-{name}.jpg", _without(content, marker), taken=None)
        for body in (b"", b"\0", b"\x04" + bytes(64), bytes(40)):
            odd = with_segments(content, segment(marker, body))
            yield Case(f"{name}-odd-{len(body)}.jpg", odd, taken=None)
        again = re.search(rb"\xff" + bytes((marker,)) + rb"(..)", content, re.DOTALL)
        assert again
        length = int.from_bytes(again[1], "big") + 2
        table = content[again.start() : again.start() + length]
        yield Case(f"{name}-twice.jpg", content[:scan] + table + content[scan:])
    yield Case("no-end.jpg", content[:-2], taken=None)
    yield Case("no-end-but-rubbish.jpg", content[:-2] + bytes(400), taken=None)
    yield Case("half-an-end.jpg", content[:-1], taken=None)
    yield Case("rubbish-after.jpg", content + b"rubbish\xff\xd8\xff" * 40)
    yield Case("another-after.jpg", content + encoded("L"))
    yield Case("another-for-end.jpg", content[:-2] + encoded("L"))
    yield Case("codes-after.jpg", content[:-2] + segment(0xC4, b"\xff") + _END)
    yield Case("scan-after.jpg", content[:-2] + content[scan:])
    yield Case("metadata-cut-after.jpg", content[:-2] + b"\xff\xe1\xff\xff")
    for share in (0.2, 0.5, 0.9):
        cut = scan + 14 + int((len(content) - scan - 14) * share)
        yield Case(f"cut-{share}.jpg", content[:cut], taken=None)
        yield Case(f"cut-{share}-end.jpg", content[:cut] + _END, taken=None)
        yield Case(f"cut-{share}-metadata.jpg", content[:cut] + segment(0xE1, b"x" * 90), None)
    for length in range(2, 12):
        yield Case(f"begin-{length}.jpg", content[:length], taken=False)


def _scans() -> Iterator[Case]:
    progressive = encoded(progressive=True, size=(40, 30))
    starts = [match.start() for match in re.finditer(rb"\xff\xda", progressive)]
    last, end = progressive[starts[-1] : -2], _END
    for count, taken in ((1, True), (50, True), (91, None), (300, False)):
        more = progressive[: starts[-1]] + last * count + end
        yield Case(f"scans-{count}.jpg", more, taken=taken)
    for count in (99, 100, 101):
        more = progressive[: starts[-1]] + last * (count - len(starts) + 1) + end
        yield Case(f"scans-are-{count}.jpg", more, taken=count <= 100)
    for count in range(1, len(starts)):
        yield Case(f"scans-missing-{count}.jpg", progressive[: starts[-count]] + end, taken=False)
        yield Case(f"scans-cut-{count}.jpg", progressive[: starts[-count]], taken=None)
    six = segment(0xE1, PREFIX + stated(6))
    between = progressive[: starts[1]] + six + progressive[starts[1] :]
    yield Case("scans-metadata-between.jpg", between)
    three = encoded_files()["three-scans"]
    starts = [match.start() for match in re.finditer(rb"\xff\xda", three)]
    last = three[starts[-1] : -2]
    for count, taken in ((2, None), (120, False)):
        yield Case(f"three-scans-{count}.jpg", three[: starts[-1]] + last * count + end, taken)
    yield Case("three-scans-two.jpg", three[: starts[-1]] + end, taken=None)
    yield Case("three-scans-no-end.jpg", three[:-2], taken=None)


def _metadata() -> Iterator[Case]:
    content = encoded(size=(7, 4))
    for name, (exif, turn) in exif_blocks().items():
        block = segment(0xE1, PREFIX + exif)
        yield Case(f"exif-{name}.jpg", with_segments(content, block), turn=turn_of(turn))
        bare = with_segments(_without(content, 0xE0), block)
        yield Case(f"exif-{name}-no-density.jpg", bare, turn=turn_of(turn))
        dense = content.replace(b"JFIF\0\1\1\0\0\1\0\1", b"JFIF\0\1\1\1\0\x48\0\x48")
        yield Case(f"exif-{name}-dpi.jpg", with_segments(dense, block), turn=turn_of(turn))
        both = with_segments(content, segment(0xE1, XMP + xmp_packets()["element"][0]), block)
        yield Case(f"exif-{name}-xmp-8.jpg", both, turn=turn_of(turn, 8))
    for name, (xmp, turn) in xmp_packets().items():
        block = segment(0xE1, XMP + xmp)
        yield Case(f"xmp-{name}.jpg", with_segments(content, block), turn=turn_of(None, turn))
    six, three = segment(0xE1, PREFIX + stated(6)), segment(0xE1, PREFIX + stated(3))
    none = segment(0xE1, PREFIX + exif_blocks()["another-tag"][0])
    attribute, element = (
        segment(0xE1, XMP + xmp_packets()[k][0]) for k in ("attribute", "element")
    )
    half = len(stated(6)) // 2
    split = segment(0xE1, PREFIX + stated(6)[:half]), segment(0xE1, PREFIX + stated(6)[half:])
    photoshop = b"Photoshop 3.0\x008BIM\x03\xed\0\0"
    for name, turn, segments in (
        ("two-exif", 6, (six, three)),
        ("two-exif-first-without", 1, (none, six)),
        ("exif-in-two-segments", 6, split),
        ("two-xmp", 8, (attribute, element)),
        ("exif-then-xmp", 3, (three, element)),
        ("xmp-then-exif", 3, (element, three)),
        ("exif-lower-case", 1, (segment(0xE1, b"exif\0\0" + stated(6)),)),
        ("exif-in-app2", 1, (segment(0xE2, PREFIX + stated(6)),)),
        ("exif-no-padding", 1, (segment(0xE1, b"Exif\0" + stated(6)),)),
        ("xmp-no-end", 1, (segment(0xE1, XMP[:-1]),)),
        ("icc-short", 6, (segment(0xE2, b"ICC_PROFILE\0"), six)),
        ("icc-numbered-wrong", 6, (segment(0xE2, b"ICC_PROFILE\0\x07\1abc"), six)),
        (
            "icc-two",
            6,
            (segment(0xE2, b"ICC_PROFILE\0\2\2a"), segment(0xE2, b"ICC_PROFILE\0\2\2b"), six),
        ),
        ("photoshop-short", 6, (segment(0xED, photoshop), six)),
        ("photoshop-resolution-short", 6, (segment(0xED, photoshop + b"\0\0\0\2ab"), six)),
        ("mpf", 6, (segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"), six)),
        ("mpf-noise", 6, (segment(0xE2, b"MPF\0" + bytes(range(60))), six)),
        ("flashpix", 6, (segment(0xE2, b"FPXR\0"), six)),
        ("app-empty", 6, (*(segment(m, b"") for m in range(0xE0, 0xF0)), six)),
    ):
        yield Case(f"meta-{name}.jpg", with_segments(content, *segments), turn=turn)
    late = content.index(b"\xff\xda")
    yield Case("meta-late.jpg", content[:late] + six + content[late:], turn=6)
    yield Case("meta-after.jpg", content[:-2] + six + _END)


def _without(content: bytes, *markers: int) -> bytes:
    """Return a file without the segments of some markers before its scan."""
    at, kept = 2, [_START]
    while content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        kept += [content[at:end]] if content[at + 1] not in markers else []
        at = end
    return b"".join(kept) + content[at:]


def _with_ids(content: bytes, ids: bytes) -> bytes:
    """Return a file whose channels have other numbers, in the frame and in the scan."""
    out = bytearray(content)
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    for i in range(min(out[frame + 9], len(ids))):
        out[frame + 10 + 3 * i] = out[scan + 5 + 2 * i] = ids[i]
    return bytes(out)


def _frame_of(content: bytes, channels: int) -> bytes:
    frame = content.index(b"\xff\xc0")
    body = content[frame + 4 : frame + 9] + bytes((channels,)) + b"\1\x11\0\2\x11\0"[: 3 * channels]
    return content[:frame] + segment(0xC0, body) + content[frame + 13 :]
