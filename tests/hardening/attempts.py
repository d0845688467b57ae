"""What is tried on the commands: the arguments, and the exit code and words that are right."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .workshop import Ran, contents, failing_writes, run_here


@dataclass(frozen=True)
class Attempt:
    """One command on bad input.

    Attributes:
        what: what is wrong, in words.
        command: arguments; those that begin with `@` lie in the workshop, with `>` in an empty
            folder for outputs.
        code: the exit code that is right.
        said: what the one line must hold; for code 0 nothing need be said.
        made: the files that may appear in the folder for outputs.
        there: a file that is in that folder before, with the contents `old`.
        failing: number of the system's error that every flush to the disk meets.
    """

    what: str
    command: str
    code: int
    said: str = ""
    made: frozenset[str] = frozenset()
    there: str | None = None
    failing: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt; `faults` is empty where all was as it should be."""

    ran: Ran
    faults: tuple[str, ...]


def attempt(tried: Attempt, workshop: Path, output: Path) -> Outcome:
    """Run a command on bad input, and hold what it said and left behind against the promise."""
    if tried.there is not None:
        (output / tried.there).parent.mkdir(parents=True, exist_ok=True)
        (output / tried.there).write_text("old")
    before = contents(workshop)
    disk: AbstractContextManager[None] = nullcontext()
    if tried.failing is not None:
        disk = failing_writes(tried.failing)
    with disk:
        ran = run_here(*(_place(word, workshop, output) for word in tried.command.split("|")))
    left = contents(output)
    expected = {"there": left.pop(tried.there, None) == b"old"} if tried.there else {}
    faults = {
        f"leaked {ran.leaked}": ran.leaked is not None,
        f"exit code {ran.code}, right is {tried.code}": ran.code != tried.code,
        "a traceback": "Traceback" in ran.err,
        "a warning of a library": "Warning" in ran.err,
        "not one line of error": tried.code != 0 and _error_lines(ran) != 1,
        f"it does not say {tried.said!r}": tried.said not in ran.err.replace("\n", " "),
        "something on stdout": tried.code != 0 and ran.out != "",
        f"it left {sorted(left)}": not left.keys() <= tried.made,
        "what was there is gone": not expected.get("there", True),
        "the inputs changed": contents(workshop) != before,
    }
    return Outcome(ran, tuple(fault for fault, is_so in faults.items() if is_so))


def _error_lines(ran: Ran) -> int:
    """Count lines that tell of an error; Typer's box about an option counts as one."""
    return sum(line.startswith(("error: ", "╭─ Error")) for line in ran.err.splitlines())


def _place(word: str, workshop: Path, output: Path) -> str:
    if word.startswith("@"):
        return str(workshop / word[1:])
    return str(output / word[1:]) if word.startswith(">") else word


def _each(what: str, commands: dict[str, tuple[int, str]]) -> list[Attempt]:
    return [Attempt(what, command, code, said) for command, (code, said) in commands.items()]


IMAGE = "@images/names/plain.png"
TABLE = "-o|>t.npy"
NO_SPACE = "No space left on device"

ATTEMPTS: tuple[Attempt, ...] = (
    *_each(
        "a truncated model",
        {
            f"embed|@truncated.onnx|{IMAGE}|{TABLE}": (1, "cannot load it"),
            f"embed|@truncated.safetensors|{IMAGE}|{TABLE}": (1, "not a whole safetensors file"),
            "inspect|@truncated.onnx": (1, "not a whole ONNX file"),
            "inspect|@truncated.safetensors": (1, "not a whole safetensors file"),
            f"check|@model.onnx|@truncated.onnx|--images|{IMAGE}": (1, "cannot load it"),
            "bench|@truncated.onnx": (1, "cannot load it"),
            "export|@truncated.safetensors|-o|>m.onnx": (1, "not a whole safetensors file"),
            "build|@truncated.onnx|-o|>m.engine": (1, "not a whole ONNX file"),
            "package|@truncated.onnx|-o|>bundle": (1, "cannot load it"),
            f"explain|@truncated.safetensors|{IMAGE}|-o|>maps": (1, "not a whole safetensors"),
            f"index|@truncated.onnx|{IMAGE}|-o|>index": (1, "cannot load it"),
            "evaluate|@truncated.onnx|--data|@images/classes": (1, "cannot load it"),
            "serve|@truncated.onnx": (1, "cannot load it"),
        },
    ),
    *_each(
        "a model with one bit flipped",
        {
            f"embed|@flipped.onnx|{IMAGE}|{TABLE}": (1, "its SHA-256 differs"),
            "package|@flipped.onnx|-o|>bundle": (1, "its SHA-256 differs"),
            "bench|@flipped.onnx": (1, "its SHA-256 differs"),
        },
    ),
    *_each(
        "a model that is missing, a folder, or of another kind",
        {
            f"embed|@none.onnx|{IMAGE}|{TABLE}": (2, "no such file or folder"),
            f"embed|@folder.onnx|{IMAGE}|{TABLE}": (2, "this is a folder"),
            f"embed|{IMAGE}|{IMAGE}|{TABLE}": (2, "expected a model ending in"),
            "inspect|@folder.onnx": (2, "this is a folder"),
            f"inspect|{IMAGE}": (2, "expected a .safetensors"),
            "export|@none.safetensors|-o|>m.onnx": (2, "no such file or folder"),
            "export|@truncated.onnx|-o|>m.onnx": (1, "an exported model and no checkpoint"),
            "build|@none.onnx|-o|>m.engine": (2, "no such file or folder"),
            "package|@model.safetensors|-o|>bundle": (2, "export a checkpoint first"),
            "tune|@model.onnx|--data|@images/classes": (2, "starts from a checkpoint"),
            "verify|@empty": (1, "not a bundle"),
            "verify|@none": (2, "no such file or folder"),
            f"search|{IMAGE}|--index|@empty|--model|@model.onnx": (1, "not a gallery"),
        },
    ),
    *_each(
        "a folder without images",
        {
            f"embed|@model.onnx|@empty|{TABLE}": (1, "no image"),
            "check|@model.onnx|@model.onnx|--images|@empty": (1, "no image"),
            "explain|@model.safetensors|@empty|-o|>maps": (1, "no image"),
            "index|@model.onnx|@empty|-o|>index": (1, "no image"),
            "package|@model.onnx|-o|>bundle|--images|@empty": (1, "no image"),
            "export|@model.safetensors|-o|>m.onnx|--calibrate|@empty": (1, "no image"),
            "evaluate|@model.onnx|--data|@empty": (1, "found none"),
            "train|@nothing.toml|-o|>run": (1, "found none"),
        },
    ),
    *_each(
        "images that cannot be read, and no other",
        {
            f"embed|@model.onnx|@images/broken|{TABLE}": (1, "none of the 5 images can be read"),
            f"embed|@model.onnx|@images/broken/zero bytes.png|{TABLE}": (1, "not an image"),
            f"embed|@model.onnx|@images/broken/108 megapixels.png|{TABLE}": (1, "64,000,000"),
            f"embed|@model.onnx|@images/broken/4 gigapixels.png|{TABLE}": (1, "bomb"),
            f"embed|@model.onnx|@images/broken/truncated.png|{TABLE}": (1, "damaged image"),
            "check|@model.onnx|@model.onnx|--images|@images/broken": (1, "can be read"),
            "explain|@model.safetensors|@images/broken|-o|>maps": (1, "can be read"),
            "index|@model.onnx|@images/broken|-o|>index": (1, "can be read"),
            "export|@model.safetensors|-o|>m.onnx|--calibrate|@images/broken": (1, "can be read"),
            f"embed|@model.onnx|--strict|@images/broken|{IMAGE}|{TABLE}": (1, "scale it down"),
        },
    ),
    Attempt(
        "images that cannot be read, among others",
        f"embed|@model.onnx|@images/broken|{IMAGE}|{TABLE}",
        0,
        "skipped 5 images",
        frozenset({"t.npy", "t.ids.txt"}),
    ),
    Attempt(
        "CMYK, 16-bit, EXIF-rotated, animated, transparent, one pixel, a line",
        "embed|@model.onnx|@images/kinds|-o|>t.npz",
        0,
        made=frozenset({"t.npz"}),
    ),
    Attempt(
        "spaces, unicode and brackets in paths",
        "embed|@model.onnx|@images/names|-o|>ä ö/日本 🎏.npy",
        0,
        made=frozenset({"ä ö/日本 🎏.npy", "ä ö/日本 🎏.ids.txt"}),
    ),
    *_each(
        "a path that is none",
        {
            f"embed|@model.onnx|@none/*.png|{TABLE}": (1, "matches nothing"),
            f"embed|@model.onnx|a\nb\x1b[2J|{TABLE}": (1, r"a\nb\x1b[2J: the pattern"),
            f"embed|@model.onnx|{IMAGE}|-o|@model.onnx/t.npy": (1, "cannot write"),
            f"embed|@model.onnx|{IMAGE}|-o|/proc/t.npy": (1, "cannot write"),
            f"embed|@model.onnx|{IMAGE}|-o|>t.txt": (2, "expected an output ending in"),
            "export|@model.safetensors|-o|>m.bin": (2, "ending in .onnx"),
            "export|@model.safetensors|-o|/proc/m.onnx": (1, "cannot write"),
            "package|@model.onnx|-o|/proc/bundle": (1, "cannot write"),
            "train|@recipe.toml|-o|/proc/run": (1, "/proc/run"),
        },
    ),
    *_each(
        "a manifest, recipe or document that is none",
        {
            "inspect|@list.json": (1, "not a manifest"),
            "inspect|@deep.json": (1, "damaged"),
            "inspect|@deep.engine.json": (1, "damaged"),
            "inspect|@escape.json": (1, "not a manifest"),
            "report|@list.json|-o|>r.html": (1, "expected a manifest"),
            "report|@deep.json|-o|>r.html": (1, "not a whole JSON document"),
            "report|@empty|-o|>r.html": (1, "nothing to report"),
            "train|@broken.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@deep.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@zero.toml|-o|>run": (2, "extends must be the name"),
            "train|@circle.toml|-o|>run": (2, "extends this file again"),
            "train|@unknown.toml|-o|>run": (2, "this setting is missing"),
            "train|@binary.toml|-o|>run": (2, "not a TOML recipe"),
            "train|@none.toml|-o|>run": (2, "no such recipe"),
            "train|@recipe.toml|-o|>run|--set|nonsense": (2, "expected section.key=value"),
            "train|@recipe.toml|-o|>run|--set|run.steps=many": (2, "run.steps"),
            "evaluate|@model.onnx|--data|csv:/none.csv": (2, "no such file or folder"),
            "evaluate|@model.onnx|--data|@binary.csv": (1, r"\x1b"),
            "evaluate|@model.onnx|--data|nonsense": (2, "no data set"),
        },
    ),
    *_each(
        "an option outside its domain",
        {
            f"embed|@model.onnx|{IMAGE}|{TABLE}|--device|tpu": (2, "device must be"),
            f"embed|@model.onnx|{IMAGE}|{TABLE}|--threads|0": (2, "threads must be"),
            f"embed|@model.onnx|{IMAGE}|{TABLE}|--batch|0": (2, "--batch"),
            f"embed|@model.onnx|{IMAGE}|{TABLE}|--provider|none": (4, "this ONNX Runtime has no"),
            "export|@model.safetensors|-o|>m.onnx|--precision|fp7": (2, "precision"),
            "export|@model.safetensors|-o|>m.onnx|--opset|3": (2, "opset"),
            "serve|@model.onnx|--port|99999999": (2, "--port"),
        },
    ),
    Attempt(
        "an engine where there is no GPU, without its manifest",
        "inspect|@orphan.engine",
        0,
        made=frozenset(),
    ),
    *(
        Attempt("the output exists", command, 2, "pass --force", there=there)
        for command, there in (
            (f"embed|@model.onnx|{IMAGE}|{TABLE}", "t.npy"),
            (f"embed|@model.onnx|{IMAGE}|{TABLE}", "t.ids.txt"),
            ("export|@model.safetensors|-o|>m.onnx", "m.onnx"),
            ("export|@model.safetensors|-o|>m.onnx", "m.onnx.json"),
            ("build|@model.onnx|-o|>m.engine", "m.engine"),
            ("build|@model.onnx|-o|>m.engine", "m.engine.json"),
            (f"explain|@model.safetensors|{IMAGE}|-o|>", "plain.png"),
            ("package|@model.onnx|-o|>bundle", "bundle/bundle.json"),
            ("report|@model.onnx.json|-o|>r.html", "r.html"),
        )
    ),
    *(
        Attempt("the output is something else", command, 2, "choose another", there=there)
        for command, there in (
            ("package|@model.onnx|-o|>|--force", "diary"),
            (f"index|@model.onnx|{IMAGE}|-o|>|--force", "diary"),
            ("demo|--output|>|--force", "diary"),
        )
    ),
    *(
        Attempt("the disk is full", command, 1, NO_SPACE, there=there, failing=errno.ENOSPC)
        for command, there in (
            (f"embed|@model.onnx|{IMAGE}|{TABLE}|--force", "t.npy"),
            (f"embed|@model.onnx|{IMAGE}|{TABLE}|--force", "t.ids.txt"),
            ("export|@model.safetensors|-o|>m.onnx|--force|--iterations|2", "m.onnx"),
            ("export|@model.safetensors|-o|>m.onnx|--force|--iterations|2", "m.onnx.json"),
            ("package|@model.onnx|-o|>bundle", None),
            (f"index|@model.onnx|{IMAGE}|-o|>index", None),
            (f"explain|@model.safetensors|{IMAGE}|-o|>maps", None),
            ("report|@model.onnx.json|-o|>r.html|--force", "r.html"),
            ("train|@recipe.toml|-o|>run", None),
        )
    ),
)
