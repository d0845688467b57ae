"""Settings of a model: backbone, pooling head and pre-processing.

Each class checks its values when you construct it, and is frozen afterwards.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from gsp_deploy.base.schema import from_data
from gsp_deploy.errors import ConfigError, brief

Solver = Literal["fixed-point", "newton", "certified"]
PoolingMode = Literal["gap", "gmp", "gem"]
BaselineMode = Literal["gap", "gmp", "gem", "gap+gmp"]
Interpolation = Literal["bilinear", "bicubic"]
ResizeMode = Literal["crop", "stretch"]
Pipeline = Literal["torchvision", "timm", "opencv", "pillow"]
# The pipeline of files from before the format had an entry for it.
UNNAMED_PIPELINE: Pipeline = "pillow"


@dataclass(frozen=True)
class Domain:
    """The range of numbers that a setting accepts; training recipes use it too."""

    above: float | None = None
    at_least: float | None = None
    at_most: float = math.inf


Count = Annotated[int, Domain(at_least=1)]
Positive = Annotated[float, Domain(above=0)]
Share = Annotated[float, Domain(above=0, at_most=1)]

DEFAULT_ITERATIONS: dict[str, int] = {"fixed-point": 100, "newton": 20, "certified": 3}
# Settings of the solver: they do not change the embedding once the solver has converged.
SOLVER_SETTINGS = ("solver", "iterations", "initial_scale")
# With a single third-order step, the sweep before it would need thousands of points.
FEWEST_CERTIFIED_STEPS = 2

FEATURES = "features"
# timm accepts more than names: `hf-hub:` and `local-dir:` load files from elsewhere, and so does
# the option below. A checkpoint that you received must not be able to do that.
_TIMM_NAME = re.compile(r"[A-Za-z0-9_.]+")
_READS_A_FILE = "checkpoint_path"


def backbone_name(text: str) -> str:
    """Return a name that a backbone of another origin than timm's can have in a `ModelConfig`.

    >>> backbone_name("vit-small (1)"), backbone_name("features"), backbone_name("?")
    ('vit_small_1', 'features_network', 'network')
    """
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", text).strip("_") or "network"
    return f"{name}_network" if name == FEATURES else name


@dataclass(frozen=True)
class GSPConfig:
    """Settings of a Generalized Sum Pooling head (ICCV 2023, section 4).

    Args:
        in_channels: C, channels of the backbone's feature map.
        embedding_dim: D, length of the embedding.
        num_prototypes: M, learnable prototypes.
        transport_ratio: mu in (0, 1], the share of mass that the pooling keeps; 1 is average
            pooling.
        entropy_weight: gamma > 0, sharpness of the smoothed transport.
        iterations: solver steps; None means 100 for `fixed-point`, 20 for `newton`, 3 for
            `certified`.
        solver: `fixed-point` is the paper's iteration, `newton` the bracketed root search, and
            `certified` a sweep followed by steps, with an error bound for every input. None means
            `certified`, or `fixed-point` if you give `iterations`, because the paper counts its
            iterations.
        pooling: reduction over the weighted locations: `gap` is their mean, `gmp` their max,
            `gem` their generalised mean.
        max_residual: add W . max_i x_i (the TensorFlow reference's `augment_max_pool`).
        normalize: L2-normalise the embedding.
        bias: give the 1x1 embedding a bias.
        initial_scale: t(0) of the fixed-point iteration; None means mu, as in the authors'
            PyTorch layer. Their TensorFlow layer starts from 1.

    Raises:
        ConfigError: a value is outside its domain.

    >>> GSPConfig(in_channels=1024).solver, GSPConfig(in_channels=1024, iterations=100).solver
    ('certified', 'fixed-point')
    """

    KIND: ClassVar[str] = "gsp"

    in_channels: Count
    embedding_dim: Count = 512
    num_prototypes: Count = 64
    transport_ratio: Share = 0.3
    entropy_weight: Positive = 5.0
    iterations: Count | None = None
    solver: Solver = None  # type: ignore[assignment]  # __post_init__ fills it in
    pooling: PoolingMode = "gap"
    max_residual: bool = False
    normalize: bool = True
    bias: bool = True
    initial_scale: Positive | None = None

    def __post_init__(self) -> None:
        if self.solver is None:
            chosen = "certified" if self.iterations is None else "fixed-point"
            object.__setattr__(self, "solver", chosen)
        _one_of("solver", self.solver, get_args(Solver))
        if self.iterations is None:
            object.__setattr__(self, "iterations", DEFAULT_ITERATIONS[self.solver])
        _check_settings(self)
        if self.solver == "certified" and self.steps < FEWEST_CERTIFIED_STEPS:
            raise ConfigError(
                f"iterations must be at least {FEWEST_CERTIFIED_STEPS} with solver certified, "
                f"got {self.iterations}"
            )

    @property
    def steps(self) -> int:
        """Solver steps, with the default filled in."""
        assert self.iterations is not None  # filled in by __post_init__
        return self.iterations


@dataclass(frozen=True)
class BaselineConfig:
    """Settings of a conventional global pooling followed by the same 1x1 embedding.

    These are the baselines for GSP: average, max or generalised-mean pooling, or the sum of
    average and max.
    """

    KIND: ClassVar[str] = "baseline"

    in_channels: Count
    embedding_dim: Count = 512
    pooling: BaselineMode = "gap"
    normalize: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        _check_settings(self)

    @property
    def in_words(self) -> str:
        """The head for errors and reports."""
        return f"{self.pooling} pooling without transport"


@dataclass(frozen=True)
class AdoptedHead:
    """The head of an adopted ONNX network: the graph has one, and gsp-deploy knows only its result.

    There are no weights of locations, no attributes, no certificate and no residual.

    Args:
        embedding_dim: D, length of the embedding.
        normalize: the adoption added an L2 normalisation after the network.
    """

    KIND: ClassVar[str] = "adopted"

    embedding_dim: Count
    normalize: bool = False

    def __post_init__(self) -> None:
        _check_settings(self)

    @property
    def in_words(self) -> str:
        """The head for errors and reports."""
        return "no GSP head (it is adopted from another ONNX file)"


Head = GSPConfig | BaselineConfig | AdoptedHead


@dataclass(frozen=True)
class PreprocessingSpec:
    """How an image file becomes the network's input.

    The image is resized, then each RGB channel becomes `(pixel / 255 - mean) / std`.

    Args:
        height, width: size of the input, in pixels.
        mean, std: per channel (R, G, B), for values from 0 to 1; the default is ImageNet's.
        interpolation: the resize's filter; antialiased, except with the pipeline `opencv`.
        resize: `crop` resizes the image to cover `size / crop_ratio` and cuts out the centre;
            `stretch` resizes to `size / crop_ratio` in another aspect ratio and cuts out the
            centre.
        crop_ratio: share of the resized image's side that the crop keeps, above 0, at most 1. If it
            stretches, the pipeline `pillow` keeps all.
        pipeline: the library to match, to the pixel. `torchvision`: `Resize(size / crop_ratio)`
            and `CenterCrop(size)`. `timm`: `timm.data.create_transform` for evaluation. `opencv`:
            `cv2.resize` without antialiasing, both sides and the crop's start rounded as
            Albumentations does. `pillow`: Pillow's resize with that rounding; a file that names
            no pipeline means this one.

    Raises:
        ConfigError: a value is outside its domain.
    """

    # Values for files from before the format had these entries.
    UNNAMED: ClassVar[Mapping[str, Any]] = {"pipeline": UNNAMED_PIPELINE}

    height: Count
    width: Count
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    resize: ResizeMode = "crop"
    crop_ratio: Share = 1.0
    pipeline: Pipeline = "torchvision"

    def __post_init__(self) -> None:
        _check_settings(self)
        for name in ("mean", "std"):
            object.__setattr__(self, name, _channel_triple(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise ConfigError(f"std must be above 0 in every channel, got {self.std}")

    @property
    def crops(self) -> bool:
        """Whether the centre is cut out after the resize."""
        return self.resize == "crop" or (self.crop_ratio < 1 and self.pipeline != "pillow")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PreprocessingSpec:
        """Build the settings from a file's; without a `pipeline` they mean `pillow`.

        Raises:
            ConfigError: a key is unknown or missing, or a value is outside its domain.
        """
        found: PreprocessingSpec = from_data(cls, data, "preprocessing")
        return found


@dataclass(frozen=True)
class ModelConfig:
    """A whole embedding model: everything that rebuilding it from a checkpoint needs.

    Args:
        backbone: a timm model name, never a path or a URL. With `features` the model is the head
            alone: its input is a feature map `(B, C, H, W)` that you compute elsewhere. Of an
            adopted network, the name that reports give it.
        head: Generalized Sum Pooling, a baseline, or that of an adopted network.
        preprocessing: how to prepare images; None if, and only if, the model is a head alone.
        backbone_options: keyword arguments for `timm.create_model`, passed on unchanged.

    Raises:
        ConfigError: the backbone is not a name, or pre-processing is missing, or given for a head
            alone.

    >>> ModelConfig("features", GSPConfig(in_channels=1024), None).is_head_only
    True
    """

    backbone: str
    head: Head
    preprocessing: PreprocessingSpec | None
    backbone_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, str) or not _TIMM_NAME.fullmatch(self.backbone):
            raise ConfigError(f"backbone must be a timm model name, got {brief(self.backbone)}")
        if _READS_A_FILE in self.backbone_options:
            raise ConfigError(
                f"backbone_options must not contain {_READS_A_FILE}: the checkpoint has the weights"
            )
        if isinstance(self.head, AdoptedHead) and self.preprocessing is None:
            raise ConfigError(f"{self.backbone} is adopted, and needs its pre-processing")
        if self.is_head_only != (self.preprocessing is None):
            raise ConfigError(
                "expected pre-processing unless the model is a head alone "
                f"(backbone {FEATURES!r}), got backbone {self.backbone!r} with {self.preprocessing}"
            )

    @property
    def is_head_only(self) -> bool:
        """Whether the input is a feature map instead of images."""
        return self.backbone == FEATURES

    @property
    def trained_head(self) -> GSPConfig | BaselineConfig:
        """The head of a model that PyTorch can build.

        Raises:
            ConfigError: the model is an adopted ONNX network, which has no PyTorch form.
        """
        if isinstance(self.head, AdoptedHead):
            raise ConfigError(
                f"{self.backbone} has {self.head.in_words} and no PyTorch form; expected a head of "
                "Generalized Sum Pooling or a baseline"
            )
        return self.head

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data that `ModelConfig.from_dict` reads back."""
        data = dataclasses.asdict(self)
        data["head"] = {"kind": self.head.KIND, **data["head"]}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Build the config from what `to_dict` wrote.

        Raises:
            ConfigError: a key is unknown or missing, or a value is outside its domain.
        """
        found: ModelConfig = from_data(cls, data, "model")
        return found


def head_from_dict(data: Mapping[str, Any]) -> Head:
    """Build the head's config from its fields and its `kind`."""
    head: Head = from_data(Head, data, "head")
    return head


def _check_settings(config: object) -> None:
    """Raise `ConfigError` if a word, switch or number is outside its field's domain."""
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        value, origin = getattr(config, name), get_origin(hint)
        if origin in (Union, UnionType):  # optional
            hint = next(part for part in get_args(hint) if part is not type(None))
            origin = None if value is None else get_origin(hint)
        if origin is Literal:
            _one_of(name, value, get_args(hint))
        elif origin is Annotated and get_args(hint)[0] is int:
            _positive_integer(name, value)
        elif origin is Annotated:
            domain = get_args(hint)[1]
            _number(name, value, above=domain.above, at_most=domain.at_most)
        elif hint is bool:
            _boolean(name, value)


def _one_of(name: str, value: object, allowed: Collection[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {brief(value)}")


def _positive_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, got {brief(value)}")


def _number(name: str, value: object, *, above: float, at_most: float = math.inf) -> None:
    allowed = f"above {above}" + (f" and at most {at_most}" if math.isfinite(at_most) else "")
    if not _is_finite_number(value):
        raise ConfigError(f"{name} must be a finite number {allowed}, got {brief(value)}")
    if not above < value <= at_most:  # type: ignore[operator]
        raise ConfigError(f"{name} must be {allowed}, got {brief(value)}")


def _boolean(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {brief(value)}")


def _channel_triple(name: str, values: Any) -> tuple[float, float, float]:
    triple = tuple(values) if isinstance(values, Iterable) else ()
    if len(triple) != 3 or not all(_is_finite_number(value) for value in triple):
        raise ConfigError(f"{name} must be three finite numbers (R, G, B), got {brief(values)}")
    red, green, blue = (float(value) for value in triple)
    return red, green, blue


def _is_finite_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False
