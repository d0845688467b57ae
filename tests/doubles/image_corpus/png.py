"""PNG files by our own writer: every pixel format, and every order and damage of chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from . import Case
from .metadata import PREFIX, exif_blocks, stated, turn_of, xmp_packets

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
FORMATS = [
    (colour, depth)
    for colour, depths in {
        0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16),
    }.items()
    for depth in depths
]  # fmt: skip
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (5, 5), (8, 8), (17, 6), (33, 19)]
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip


def chunk(kind: bytes, data: bytes, crc: int = 0) -> bytes:
    """Return a chunk; `crc` is how much its checksum is off."""
    check = (zlib.crc32(kind + data) + crc) & 0xFFFFFFFF
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def header(width: int, height: int, colour: int, depth: int, *rest: int) -> bytes:
    """Return IHDR's data; `rest` is packing, filtering and interlacing, 0 if left out."""
    return struct.pack(">IIBB", width, height, depth, colour) + bytes(rest or (0, 0, 0))


def samples(width: int, height: int, colour: int, depth: int, seed: int = 0) -> np.ndarray:
    """Return smooth samples with noise, `(height, width, channels)`, within `depth` bits."""
    draw = np.random.default_rng((width, height, colour, depth, seed))
    values = draw.integers(0, 1 << depth, (height, width, CHANNELS[colour]))
    ramp = np.linspace(0, (1 << depth) - 1, width).astype(int)[None, :, None]
    return np.where(draw.random((height, width, 1)) < 0.5, values, ramp)


def rows(values: np.ndarray, depth: int, interlaced: bool, filters: tuple[int, ...]) -> bytes:
    """Return the filtered rows of all passes; `filters` take turns."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    parts = [values[top::down, left::across] for left, top, across, down in passes]
    return b"".join(_filtered(part, depth, filters) for part in parts if part.size)


def png(
    values: np.ndarray,
    colour: int,
    depth: int,
    *,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: bool = False,
    filters: tuple[int, ...] = (0, 1, 2, 3, 4),
) -> bytes:
    """Return a whole file, with chunks before and after those of the pixels."""
    height, width, _ = values.shape
    packed = zlib.compress(rows(values, depth, interlaced, filters))
    return (
        SIGNATURE
        + chunk(b"IHDR", header(width, height, colour, depth, 0, 0, int(interlaced)))
        + before
        + chunk(b"IDAT", packed)
        + after
        + chunk(b"IEND", b"")
    )


def palette(depth: int, entries: int | None = None) -> bytes:
    """Return a palette's chunk."""
    count = 1 << depth if entries is None else entries
    draw = np.random.default_rng(depth)
    return chunk(b"PLTE", draw.integers(0, 256, 3 * count).astype(np.uint8).tobytes())


def cases() -> Iterator[Case]:
    """Yield every case."""
    yield from _formats()
    yield from _transparency()
    yield from _structure()
    yield from _packing()
    yield from _metadata()


def _formats() -> Iterator[Case]:
    for colour, depth in FORMATS:
        for width, height in SIZES:
            for interlaced in (False, True):
                name = f"format-{colour}-{depth}-{width}x{height}{'-i' if interlaced else ''}.png"
                before = palette(depth) if colour == 3 else b""
                values = samples(width, height, colour, depth)
                yield Case(name, png(values, colour, depth, before=before, interlaced=interlaced))
    values = samples(9, 7, 2, 8)
    for filters in ((0,), (1,), (2,), (3,), (4,)):
        yield Case(f"filter-{filters[0]}.png", png(values, 2, 8, filters=filters))
    yield Case("filter-5.png", _renumbered(values), taken=False)
    for colour, depth in ((0, 3), (2, 4), (3, 16), (4, 1), (1, 8), (5, 8), (7, 8), (2, 0)):
        broken = SIGNATURE + chunk(b"IHDR", header(4, 4, colour, depth)) + palette(1)
        yield Case(
            f"no-format-{colour}-{depth}.png",
            broken + chunk(b"IDAT", zlib.compress(bytes(400))) + chunk(b"IEND", b""),
            taken=False,
        )


def _transparency() -> Iterator[Case]:
    for depth in (1, 2, 4, 8, 16):
        values = samples(12, 9, 0, depth)
        top = (1 << depth) - 1
        for grey in sorted({0, 1, top, int(values[4, 4, 0]), top | 1 << 15}):
            hole = chunk(b"tRNS", struct.pack(">H", grey))
            yield Case(f"hole-grey-{depth}-{grey}.png", png(values, 0, depth, before=hole))
    for depth in (8, 16):
        values = samples(12, 9, 2, depth)
        here = tuple(int(v) for v in values[4, 4])
        near = (here[0] ^ 1, *here[1:])
        high = tuple((v ^ 0x100) & 0xFFFF for v in here)
        for word, colour in (("here", here), ("near", near), ("high", high)):
            hole = chunk(b"tRNS", struct.pack(">3H", *colour))
            yield Case(f"hole-colour-{depth}-{word}.png", png(values, 2, depth, before=hole))
    for depth in (1, 2, 4, 8):
        values = samples(12, 9, 3, depth)
        for count in sorted({0, 1, 2, 1 << depth, 256, 300}):
            veil = chunk(b"tRNS", bytes((i * 37) % 256 for i in range(count)))
            for word, before in (("", palette(depth) + veil), ("-first", veil + palette(depth))):
                name = f"hole-palette-{depth}-{count}{word}.png"
                yield Case(name, png(values, 3, depth, before=before))
    grey, colour = samples(6, 6, 0, 8), samples(6, 6, 2, 8)
    hole = chunk(b"tRNS", struct.pack(">H", int(grey[2, 2, 0])))
    yield Case("hole-twice.png", png(grey, 0, 8, before=chunk(b"tRNS", b"\0\1") + hole))
    yield Case("hole-short.png", png(grey, 0, 8, before=chunk(b"tRNS", b"\0")), taken=False)
    yield Case("hole-long.png", png(grey, 0, 8, before=chunk(b"tRNS", b"\0\5abc")))
    yield Case("hole-colour-short.png", png(colour, 2, 8, before=hole), taken=False)
    damaged = chunk(b"tRNS", b"\0\5", crc=1)
    yield Case("hole-damaged.png", png(grey, 0, 8, before=damaged), taken=False)
    yield Case("hole-after.png", png(grey, 0, 8, after=hole))
    for kind in (4, 6):
        values = samples(6, 6, kind, 8)
        yield Case(f"hole-beside-alpha-{kind}.png", png(values, kind, 8, before=hole))
        yield Case(f"hole-damaged-beside-alpha-{kind}.png", png(values, kind, 8, before=damaged))


def _structure() -> Iterator[Case]:
    values = samples(20, 14, 2, 8)
    whole = png(values, 2, 8)
    start, end = whole[:33], chunk(b"IEND", b"")
    packed = zlib.compress(rows(values, 8, False, (4,)))
    pixels = chunk(b"IDAT", packed)
    time = chunk(b"tIME", bytes(7))
    halves = chunk(b"IDAT", packed[:99]), chunk(b"IDAT", packed[99:])
    bad = {"crc": 1}
    yield Case("no-iend.png", start + pixels)
    yield Case("no-iend-no-crc.png", start + pixels[:-4])
    yield Case("no-iend-half-crc.png", start + pixels[:-2])
    yield Case("no-checksum-of-pixels.png", start + pixels[:-8])
    yield Case("iend-cut.png", start + pixels + end[:-3])
    yield Case("iend-damaged.png", start + pixels + chunk(b"IEND", b"", **bad))
    yield Case("iend-with-data.png", start + pixels + chunk(b"IEND", b"abc"))
    yield Case("rubbish-after.png", whole + b"rubbish" * 40)
    yield Case("rubbish-for-iend.png", start + pixels + b"rubbish" * 40)
    yield Case("iend-first.png", start + end + pixels, taken=False)
    yield Case("pixels-split.png", start + b"".join(halves) + end)
    yield Case("pixels-split-empty.png", start + halves[0] + chunk(b"IDAT", b"") + halves[1] + end)
    yield Case("pixels-begin-empty.png", start + chunk(b"IDAT", b"") + pixels + end)
    ones = b"".join(chunk(b"IDAT", packed[i : i + 1]) for i in range(len(packed)))
    yield Case("pixels-in-ones.png", start + ones + end)
    yield Case("pixels-apart.png", start + halves[0] + time + halves[1] + end, taken=False)
    yield Case("pixels-twice.png", start + pixels + pixels + end)
    yield Case("pixels-twice-apart.png", start + pixels + time + pixels + end)
    yield Case("pixels-damaged-crc.png", start + chunk(b"IDAT", packed, **bad) + end)
    yield Case("no-pixels.png", start + end, taken=False)
    yield Case("header-alone.png", start, taken=False)
    yield Case("signature-alone.png", SIGNATURE, taken=False)
    yield Case("signature-and-four.png", SIGNATURE + b"\0\0\0\x0d", taken=False)
    first = header(20, 14, 2, 8)
    for word, data in (("short", first[:-1]), ("long", first + b"\0")):
        yield Case(f"header-{word}.png", SIGNATURE + chunk(b"IHDR", data) + pixels, taken=False)
    damaged = SIGNATURE + chunk(b"IHDR", first, **bad) + pixels + end
    yield Case("header-damaged.png", damaged, taken=False)
    yield Case("header-twice.png", start + chunk(b"IHDR", first) + pixels + end, taken=False)
    yield Case("header-later.png", SIGNATURE + time + start[8:] + pixels + end, taken=False)
    for place, word in ((0, "packing"), (1, "filtering"), (2, "interlacing")):
        rest = [0, 0, 0]
        rest[place] = 2
        other = chunk(b"IHDR", header(20, 14, 2, 8, *rest))
        yield Case(f"header-{word}.png", SIGNATURE + other + pixels + end, taken=False)
    for width, height in ((0, 4), (4, 0), (60_000, 60_000), (1 << 31, 1), (8000, 8001)):
        other = chunk(b"IHDR", header(width, height, 2, 8))
        name = f"size-{width}x{height}.png"
        yield Case(name, SIGNATURE + other + pixels + end, taken=False)
    unknown = chunk(b"ABCD", b"critical")
    yield Case("unknown-critical.png", start + unknown + pixels + end)
    yield Case("unknown-critical-damaged.png", start + chunk(b"ABCD", b"c", **bad) + pixels + end)
    yield Case("no-letters.png", start + chunk(b"ab1d", b"x") + pixels + end, taken=False)
    yield Case("no-letters-after.png", start + pixels + chunk(b"ab1d", b"x") + end)
    long = struct.pack(">I", 1 << 31) + b"tEXt" + b"x" * 60
    yield Case("long-before.png", start + long + pixels + end, taken=False)
    yield Case("long-after.png", start + pixels + long + end)
    for share in (0.1, 0.4, 0.8, 0.95):
        yield Case(f"cut-{share}.png", whole[: 41 + int(share * len(packed))], taken=None)
    indices = samples(20, 14, 3, 8)
    for word, before, taken in (
        ("none", b"", False),
        ("short", palette(8, 40), True),
        ("empty", chunk(b"PLTE", b""), False),
        ("uneven", chunk(b"PLTE", bytes(100)), False),
        ("long", chunk(b"PLTE", bytes(771)), False),
        ("damaged", chunk(b"PLTE", bytes(30), **bad), False),
        ("twice", palette(8, 40) + palette(8), True),
    ):
        yield Case(f"palette-{word}.png", png(indices, 3, 8, before=before), taken=taken)
    yield Case("palette-after.png", png(indices, 3, 8, after=palette(8)), taken=False)
    few = png(samples(9, 9, 3, 2), 3, 2, before=palette(8))
    yield Case("palette-longer-than-bits.png", few)
    for kind in (0, 2, 6):
        suggested = png(samples(9, 9, kind, 8), kind, 8, before=palette(4))
        yield Case(f"palette-beside-{kind}.png", suggested)
        damaged = png(samples(9, 9, kind, 8), kind, 8, before=chunk(b"PLTE", b"abcd", **bad))
        yield Case(f"palette-damaged-beside-{kind}.png", damaged)


def _packing() -> Iterator[Case]:
    """How the pixels are packed, whole and not."""
    values = samples(20, 14, 2, 8)
    raw = rows(values, 8, False, (0, 1, 2, 3, 4))
    start = SIGNATURE + chunk(b"IHDR", header(20, 14, 2, 8))
    end = chunk(b"IEND", b"")

    def packed(data: bytes) -> bytes:
        return start + chunk(b"IDAT", data) + end

    for level in (0, 1, 9):
        yield Case(f"packed-level-{level}.png", packed(zlib.compress(raw, level)))
    for window in (9, 12):
        making = zlib.compressobj(9, zlib.DEFLATED, window)
        data = making.compress(raw) + making.flush()
        yield Case(f"packed-window-{window}.png", packed(data))
        small = bytes((0x18, 0x19)) + data[2:]
        yield Case(f"packed-window-{window}-named-small.png", packed(small))
    making = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, b"abc")
    yield Case("packed-dictionary.png", packed(making.compress(raw) + making.flush()), taken=False)
    whole = zlib.compress(raw)
    yield Case("packed-checksum-wrong.png", packed(whole[:-1] + bytes((whole[-1] ^ 1,))))
    yield Case("packed-checksum-none.png", packed(whole[:-4]))
    yield Case("packed-more.png", packed(whole + b"more" * 9))
    yield Case("packed-more-rows.png", packed(zlib.compress(raw + raw)))
    yield Case("packed-one-byte-more.png", packed(zlib.compress(raw + b"\0")))
    yield Case("packed-fewer-rows.png", packed(zlib.compress(raw[: 61 * 7])), taken=False)
    yield Case("packed-half-a-row.png", packed(zlib.compress(raw[:100])), taken=False)
    yield Case("packed-one-byte-less.png", packed(zlib.compress(raw[:-1])), taken=False)
    yield Case("packed-nothing.png", packed(zlib.compress(b"")), taken=False)
    yield Case("packed-empty.png", packed(b""), taken=False)
    yield Case("packed-one-byte.png", packed(b"\x78"), taken=False)
    yield Case("packed-by-gzip.png", packed(zlib.compress(raw, wbits=31)), taken=False)
    yield Case("packed-raw.png", packed(zlib.compress(raw, wbits=-15)), taken=False)
    for place in (0, 1, 5, len(whole) // 2, len(whole) - 8):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        yield Case(f"packed-damaged-{place}.png", packed(bytes(damaged)), taken=None)


def _metadata() -> Iterator[Case]:
    values = samples(7, 4, 2, 8)

    def carrying(name: str, turn: int, before: bytes = b"", after: bytes = b"") -> Iterator[Case]:
        for word, more in (("", {"before": before + after}), ("-after", {"after": before + after})):
            if before or after:
                yield Case(f"{name}{word}.png", png(values, 2, 8, **more), turn=turn)

    for name, (exif, turn) in exif_blocks().items():
        yield from carrying(f"exif-{name}", turn_of(turn), chunk(b"eXIf", exif))
        profile = b"\nexif\n%8d\n" % len(exif) + _lines((PREFIX + exif).hex().encode())
        text = b"Raw profile type exif\0"
        packed = zlib.compress(profile)
        yield from carrying(f"profile-{name}", turn_of(turn), chunk(b"tEXt", text + profile))
        yield from carrying(
            f"zprofile-{name}", turn_of(turn), chunk(b"zTXt", text + b"\0" + packed)
        )
    for name, (xmp, turn) in xmp_packets().items():
        key = b"XML:com.adobe.xmp\0"
        plain = chunk(b"iTXt", key + b"\0\0\0\0" + xmp)
        yield from carrying(f"xmp-{name}", turn_of(None, turn), plain)
        squeezed = chunk(b"iTXt", key + b"\1\0en\0key\0" + zlib.compress(xmp))
        yield from carrying(f"zxmp-{name}", turn_of(None, turn), squeezed)
        yield from carrying(f"xmp-text-{name}", turn_of(None, turn), chunk(b"tEXt", key + xmp))
        zero = chunk(b"eXIf", stated(0))
        yield from carrying(f"exif-0-xmp-{name}", 1, zero + plain)
    yield from _damaged_metadata(values)


def _damaged_metadata(values: np.ndarray) -> Iterator[Case]:
    def case(name: str, turn: int, *chunks: bytes) -> Case:
        return Case(f"meta-{name}.png", png(values, 2, 8, before=b"".join(chunks)), turn=turn)

    six, three = chunk(b"eXIf", stated(6)), chunk(b"eXIf", stated(3))
    key, text = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
    xmp = chunk(b"iTXt", key + b"\0\0\0\0" + xmp_packets()["element"][0])
    profile = b"\nexif\n 1\n" + stated(6).hex().encode()
    yield case("exif-twice", 3, six, three)
    yield case("exif-damaged", 1, chunk(b"eXIf", stated(6), crc=1))
    yield case("exif-damaged-after-good", 6, six, chunk(b"eXIf", stated(3), crc=1))
    yield case("exif-damaged-xmp", 8, chunk(b"eXIf", stated(6), crc=1), xmp)
    yield case("exif-unreadable-xmp", 8, chunk(b"eXIf", b"\0" * 9), xmp)
    yield case("exif-6-xmp-8", 6, six, xmp)
    yield case("xmp-8-exif-6", 6, xmp, six)
    yield case("exif-in-text", 6, chunk(b"tEXt", b"exif\0" + stated(6)))
    yield case("exif-in-packed-text", 1, chunk(b"zTXt", b"exif\0\0" + zlib.compress(stated(6))))
    yield case("exif-before-profile", 3, three, chunk(b"tEXt", text + profile))
    yield case("exif-without-tag-before-profile", 1, chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0"),
               chunk(b"tEXt", text + profile))  # fmt: skip
    yield case("profile-no-hexadecimal", 1, chunk(b"tEXt", text + b"\nexif\n 1\nzz"))
    yield case("profile-odd", 1, chunk(b"tEXt", text + profile[:-1]))
    yield case("profile-spaces", 6, chunk(b"tEXt", text + profile[:9] + b"  " + profile[9:]))
    yield case("profile-split-digit", 1, chunk(b"tEXt", text + profile[:10] + b" " + profile[10:]))
    yield case(
        "profile-line-in-a-byte", 6, chunk(b"tEXt", text + profile[:10] + b"\n" + profile[10:])
    )
    yield case("profile-few-lines", 1, chunk(b"tEXt", text + b"\nexif\n"))
    yield case("profile-international", 6, chunk(b"iTXt", text + b"\0\0\0\0" + profile))
    yield case("profile-bad-method", 1, chunk(b"zTXt", text + b"\1" + zlib.compress(profile)))
    yield case("profile-not-packed", 1, chunk(b"zTXt", text + b"\0" + profile))
    whole = zlib.compress(profile)
    yield case("profile-packed-cut", 6, chunk(b"zTXt", text + b"\0" + whole[:-4]))
    yield case("profile-packed-wrong", 1, chunk(b"zTXt", text + b"\0" + whole[:-1] + b"\xff"))
    bomb = zlib.compress(profile + b" " * (1 << 21))
    yield case("profile-bomb", 1, chunk(b"zTXt", text + b"\0" + bomb))
    yield case("xmp-bomb", 1, chunk(b"iTXt", key + b"\1\0\0\0" + bomb))
    other = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26)))
    yield case("another-bomb", 6, other, six)
    yield case("icc-bomb", 6, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1 << 26))), six)
    for kind in (b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tIME",
                 b"acTL", b"fcTL", b"bKGD", b"sBIT", b"hIST", b"sPLT", b"caBX"):  # fmt: skip
        for word, bad in (
            ("empty", chunk(kind, b"")),
            ("wrong", chunk(kind, b"\xff" * 5, crc=1)),
            ("noise", chunk(kind, bytes(range(255, 200, -1)))),
        ):
            yield case(f"{kind.decode()}-{word}", 6, bad, six)


def _lines(text: bytes) -> bytes:
    return b"\n".join(text[i : i + 72] for i in range(0, len(text), 72))


def _renumbered(values: np.ndarray) -> bytes:
    """Return a file whose third row has a filter that does not exist."""
    height, width, _ = values.shape
    raw = bytearray(rows(values, 8, False, (0,)))
    raw[2 * (1 + 3 * width)] = 5
    body = chunk(b"IHDR", header(width, height, 2, 8)) + chunk(b"IDAT", zlib.compress(bytes(raw)))
    return SIGNATURE + body + chunk(b"IEND", b"")


def _filtered(values: np.ndarray, depth: int, filters: tuple[int, ...]) -> bytes:
    height, width, channels = values.shape
    if depth == 16:
        packed = values.astype(">u2").reshape(height, -1).view(np.uint8)
    elif depth == 8:
        packed = values.astype(np.uint8).reshape(height, -1)
    else:
        bits = (values.reshape(height, width, 1) >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    step = max(1, channels * depth // 8)
    above = np.zeros(packed.shape[1], int)
    out = []
    for y, row in enumerate(packed.astype(int)):
        kind = filters[y % len(filters)]
        left = np.concatenate([np.zeros(step, int), row])[: len(row)]
        corner = np.concatenate([np.zeros(step, int), above])[: len(row)]
        guess = {
            0: np.zeros(len(row), int), 1: left, 2: above, 3: (left + above) // 2,
            4: _paeth(left, above, corner),
        }[kind]  # fmt: skip
        out.append(bytes((kind,)) + (row - guess).astype(np.uint8).tobytes())
        above = row
    return b"".join(out)


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    guess = left + above - corner
    across, down, both = abs(guess - left), abs(guess - above), abs(guess - corner)
    return np.where(
        (across <= down) & (across <= both), left, np.where(down <= both, above, corner)
    )
