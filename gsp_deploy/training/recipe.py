"""Check a training recipe's tables, build a frozen `Recipe`, and write it as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gsp_deploy.errors import ConfigError
from gsp_deploy.training.loss_sections import LossSection, MinerSection, NoMinerSection
from gsp_deploy.training.sections import (
    AugmentationSection,
    ConstantScheduleSection,
    DataSection,
    GspSection,
    HeadSection,
    ModelSection,
    OptimiserSection,
    PreprocessingSection,
    PrototypesSection,
    ProvenanceSection,
    RunSection,
    SamplerSection,
    ScheduleSection,
    Section,
    XbmSection,
    ZsrSection,
)

PROXY_LOSSES = ("proxy-anchor", "proxy-nca")
# Sections with several kinds; pydantic puts the kind into an error's location.
TAGGED = ("loss", "miner", "schedule")


class Recipe(Section):
    """Everything that determines a training run, except the data's files."""

    model: ModelSection
    head: HeadSection = HeadSection()
    gsp: GspSection = GspSection()
    zsr: ZsrSection = ZsrSection()
    prototypes: PrototypesSection = PrototypesSection()
    preprocessing: PreprocessingSection
    data: DataSection
    augmentation: AugmentationSection = AugmentationSection()
    loss: LossSection
    miner: MinerSection = NoMinerSection()
    xbm: XbmSection = XbmSection()
    sampler: SamplerSection
    optimiser: OptimiserSection
    schedule: ScheduleSection = ConstantScheduleSection()
    run: RunSection
    provenance: ProvenanceSection = ProvenanceSection()

    @property
    def uses_zsr(self) -> bool:
        """Whether the zero-shot loss is used; it needs the attributes of a GSP head."""
        return self.head.kind == "gsp" and self.zsr.enabled

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Return the sections that this head does not use."""
        return () if self.head.kind == "gsp" else ("gsp", "zsr", "prototypes")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.xbm.size and self.loss.kind in PROXY_LOSSES:
            raise ValueError(f"xbm.size: a memory is for pair losses, not {self.loss.kind}; set 0")
        if 0 < self.xbm.size < self.sampler.batch_size:
            raise ValueError("xbm.size: the memory must have room for a whole batch, or be 0")
        if not self.data.holds_out and (self.schedule.kind == "plateau" or self.run.patience):
            raise ValueError(
                "data.validation_fraction: plateau and patience need held-out classes; set it "
                "above 0, or set data.fold"
            )
        if self.head.kind == "gsp" and self.prototypes.init == "class-weights":
            self._check_class_weights()
        return self

    def _check_class_weights(self) -> None:
        if not self.zsr.enabled and self.loss.kind not in PROXY_LOSSES:
            raise ValueError(
                'prototypes.init: "class-weights" needs a proxy loss or zsr.enabled = true'
            )

    def to_toml(self) -> str:
        """Return the whole recipe with its defaults as TOML that `load_recipe` can read."""
        tables = self.model_dump(mode="json", exclude_none=True)
        return "\n".join(_toml_table(name, values) for name, values in tables.items())

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Return both values of each different setting that affects results, by `section.key`."""
        found = {}
        for section in type(self).model_fields:
            one, two = getattr(self, section), getattr(other, section)
            for key in sorted(set(type(one).model_fields) | set(type(two).model_fields)):
                if (section, key) in _NO_EFFECT_ON_RESULTS:
                    continue
                values = (getattr(one, key, None), getattr(two, key, None))
                if values[0] != values[1]:
                    found[f"{section}.{key}"] = values
        return found


# Settings that you may change when you resume a run, because its results stay the same.
_NO_EFFECT_ON_RESULTS = frozenset(
    ("run", key) for key in ("workers", "device", "threads", "save_every", "tensorboard")
)


def parse_recipe(data: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Check a recipe's tables and return the recipe.

    Raises:
        ConfigError: a setting is wrong; the message names `source` and the first wrong key.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_describe(error.errors()[0])}") from error


def _describe(error: ErrorDetails) -> str:
    """Return one line: the key, what was expected, and what it got."""
    parts = [str(part) for part in error["loc"]]
    section = _section_class(parts)
    if len(parts) > 1 and parts[0] in TAGGED:
        del parts[1]
    key = ".".join(parts)
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = f"[{parts[0]}] knows" if section else "the sections are"
        names = ", ".join((section or Recipe).model_fields)
        return f"{key}: there is no such setting; {known} {names}"
    if kind == "missing":
        return f"{key}: this setting is missing"
    if kind == "union_tag_not_found":
        return f"{key}.kind: this setting is missing; it is one of {_kinds(key)}"
    if kind == "union_tag_invalid":
        return f"{key}.kind: expected one of {_kinds(key)}, got {error['ctx']['tag']!r}"
    message = error["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "expected")
    if isinstance(given, (Mapping, Section)):
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {given!r}"


def _section_class(parts: list[str]) -> type[Section] | None:
    """Return the section of an error's location; if it has several kinds, the kind in use."""
    if len(parts) < 2:
        return None
    members = _members(parts[0])
    return members.get(parts[1]) if parts[0] in TAGGED else next(iter(members.values()))


def _kinds(section: str) -> str:
    return ", ".join(_members(section))


def _members(section: str) -> dict[str, type[Section]]:
    """Return a section's possible classes by their kind."""
    annotation = Recipe.model_fields[section].annotation
    classes = get_args(annotation) or (annotation,)
    return {str(_literal(c.model_fields.get("kind"))): c for c in classes}


def _literal(field: FieldInfo | None) -> object:
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


def _toml_table(name: str, values: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_toml_value(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _toml_value(value: Any) -> str:
    """Return a value in TOML; text, numbers and lists look the same in JSON and TOML."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
