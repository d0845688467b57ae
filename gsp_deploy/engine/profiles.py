"""Turn ranges such as `--batch 1:8:64` and `--size 224` into shapes of a network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gsp_deploy.artifact import ExportManifest, TensorSpec
from gsp_deploy.artifact.engine_manifest import ShapeRange
from gsp_deploy.engine.network import OPEN
from gsp_deploy.errors import UsageError, brief

DEFAULT_BATCH = (1, 8, 64)
LOW_MEMORY_BATCH = (1, 1, 8)
# Open sizes go from half to twice the trained size, in multiples of the backbones' stride.
STRIDE = 32

Range = TypeVar("Range", "SizeRange", "SpatialRange")


@dataclass(frozen=True)
class SizeRange:
    """The smallest, the most common and the largest value of one size."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.opt <= self.max:
            raise UsageError(
                f"expected min:opt:max with 0 < min <= opt <= max, got {self.min}:{self.opt}:"
                f"{self.max}"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether all three values are the same."""
        return self.min == self.max

    def __str__(self) -> str:
        return str(self.opt) if self.is_fixed else f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class SpatialRange:
    """The ranges of height and width."""

    height: SizeRange
    width: SizeRange


def parse_batch(text: str) -> SizeRange:
    """Read `8` or `1:8:64`.

    Raises:
        UsageError: the text is neither.

    >>> parse_batch("1:8:64")
    SizeRange(min=1, opt=8, max=64)
    """
    return _range("--batch", text, text.split(":"))


def parse_size(text: str) -> SpatialRange:
    """Read `224`, `224:224:448`, or with height and width `192x320:384x640:768x1280`.

    Raises:
        UsageError: the text is none of these.
    """
    heights, widths = [], []
    for part in text.split(":"):
        height, cross, width = part.partition("x")
        heights.append(height)
        widths.append(width if cross else height)
    return SpatialRange(_range("--size", text, heights), _range("--size", text, widths))


def _range(option: str, text: str, parts: Sequence[str]) -> SizeRange:
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise UsageError(f"{option} takes a number or min:opt:max, got {brief(text)}")
    numbers = [int(part) for part in parts]
    try:
        return SizeRange(numbers[0], numbers[len(parts) // 2], numbers[-1])
    except UsageError as error:
        raise UsageError(f"{option} {text}: {error}") from error


def make_profiles(
    source: TensorSpec,
    export: ExportManifest | None,
    batches: Sequence[SizeRange] = (),
    sizes: Sequence[SpatialRange] = (),
    default_batch: tuple[int, int, int] = DEFAULT_BATCH,
) -> tuple[Mapping[str, ShapeRange], ...]:
    """Return the optimisation profiles of a network with one input of images or features.

    There is one profile per range. If you give both kinds, there is one per pair; a single range of
    one kind is combined with all of the other. Open sizes without a range get a default: batches
    1:8:64, and image sizes from half to twice the size that the model was trained on.

    Args:
        source: the input, open sizes as -1.
        export: the file's manifest, for its trained size.
        batches, sizes: the ranges that you ask for.
        default_batch: the range of an open batch if `batches` is empty.

    Raises:
        UsageError: you ask for another value of a fixed size, the numbers of ranges do not match,
            or an open size has no default.
    """
    count = _count(batches, sizes)
    axes = _spatial_axes(source)
    return tuple(
        {
            source.name: _shapes(
                source,
                _batch(source, _nth(batches, index), default_batch),
                dict(zip(axes, _spatial(source, axes, _nth(sizes, index), export), strict=True)),
            )
        }
        for index in range(count)
    )


def _count(batches: Sequence[SizeRange], sizes: Sequence[SpatialRange]) -> int:
    counts = {len(ranges) for ranges in (batches, sizes) if len(ranges) > 1}
    if len(counts) > 1:
        raise UsageError(
            f"{len(batches)} --batch and {len(sizes)} --size do not pair up; give as many of "
            "both, or one of either"
        )
    return counts.pop() if counts else 1


def _nth(ranges: Sequence[Range], index: int) -> Range | None:
    return None if not ranges else ranges[index if len(ranges) > 1 else 0]


def _spatial_axes(source: TensorSpec) -> tuple[int, int]:
    """Return the axes of height and width: pixels are NHWC, everything else is NCHW."""
    if len(source.shape) != 4:
        raise UsageError(
            f"expected one input of images with four sizes, got {source.name} {source.shape}"
        )
    return (1, 2) if source.dtype == "uint8" else (2, 3)


def _batch(source: TensorSpec, asked: SizeRange | None, default: tuple[int, int, int]) -> SizeRange:
    size = source.shape[0]
    if size == OPEN:
        return asked or SizeRange(*default)
    assert isinstance(size, int)
    _check_fixed("--batch", asked, size, "batch")
    return SizeRange(size, size, size)


def _spatial(
    source: TensorSpec,
    axes: tuple[int, int],
    asked: SpatialRange | None,
    export: ExportManifest | None,
) -> tuple[SizeRange, SizeRange]:
    found = []
    for axis, name in zip(axes, ("height", "width"), strict=True):
        size = source.shape[axis]
        wanted = None if asked is None else getattr(asked, name)
        if size == OPEN:
            found.append(wanted or _trained(source, name, export))
            continue
        assert isinstance(size, int)
        _check_fixed("--size", wanted, size, name)
        found.append(SizeRange(size, size, size))
    return found[0], found[1]


def _trained(source: TensorSpec, name: str, export: ExportManifest | None) -> SizeRange:
    spec = None if export is None else export.preprocessing
    if spec is None:
        raise UsageError(
            f"{source.name} leaves its {name} open and the file does not say what it was trained "
            "on; pass --size MIN:OPT:MAX"
        )
    trained: int = getattr(spec, name)
    least = max(trained // 2 // STRIDE * STRIDE, min(trained, STRIDE))
    return SizeRange(least, trained, 2 * trained)


def _check_fixed(option: str, asked: SizeRange | None, size: int, name: str) -> None:
    if asked is None or (asked.is_fixed and asked.opt == size):
        return
    way = "--static-batch" if option == "--batch" else "--dynamic-size"
    how = f"without {way}" if option == "--batch" else f"with {way}"
    raise UsageError(
        f"{option} {asked}: the {name} is fixed to {size} in this file; export it {how}, or "
        f"leave {option} out"
    )


def _shapes(source: TensorSpec, batch: SizeRange, spatial: Mapping[int, SizeRange]) -> ShapeRange:
    ranges = {0: batch, **spatial}

    def at(which: str) -> tuple[int, ...]:
        sizes = [
            int(getattr(ranges[axis], which) if axis in ranges else size)
            for axis, size in enumerate(source.shape)
        ]
        if OPEN in sizes:
            raise UsageError(
                f"{source.name} {list(source.shape)} has an open size that is neither batch, "
                "height nor width; export it with a fixed one"
            )
        return tuple(sizes)

    return ShapeRange(at("min"), at("opt"), at("max"))
