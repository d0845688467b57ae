"""Files that are not manifests, documents or recipes."""

from __future__ import annotations

from hardening.attempts import Attempt, each

from .models import FOLDER, IMAGE, MISSING

ATTEMPTS: tuple[Attempt, ...] = (
    *each(
        "a file that is not a manifest or document",
        {
            "inspect|@none.json": MISSING,
            "inspect|@folder.json": FOLDER,
            "inspect|@list.json": (1, "not a manifest"),
            "inspect|@deep.json": (1, "damaged"),
            "inspect|@deep.engine.json": (1, "damaged"),
            "inspect|@escape.json": (1, "not a manifest"),
            "report|@none.json|-o|>r.html": MISSING,
            "report|@list.json|-o|>r.html": (1, "expected a manifest"),
            "report|@deep.json|-o|>r.html": (1, "not a whole JSON document"),
            f"report|{IMAGE}|-o|>r.html": (1, "plain.png: "),
            "report|@empty|-o|>r.html": (1, "nothing to report"),
        },
    ),
    *each(
        "a file that is not a recipe",
        {
            "train|@none.toml|-o|>run": (2, "no such recipe"),
            "train|@folder.toml|-o|>run": (2, "folder.toml"),
            "train|@binary.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@broken.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@deep.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@model.onnx|-o|>run": (2, "not a TOML recipe"),
            "train|@zero.toml|-o|>run": (2, "extends must be the name"),
            "train|@circle.toml|-o|>run": (2, "extends this file again"),
            "train|@unknown.toml|-o|>run": (2, "this setting is missing"),
            "train|@nothing.toml|-o|>run": (1, "found none"),
            "train|@recipe.toml|-o|>run|--set|nonsense": (2, "expected section.key=value"),
            "train|@recipe.toml|-o|>run|--set|run.steps=many": (2, "run.steps"),
        },
    ),
)
