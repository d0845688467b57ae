"""Outputs that exist already, that cannot be written, and on a full disk."""

from __future__ import annotations

import errno

from hardening.attempts import Attempt, each

from .models import IMAGE

NO_PLACE = (1, "cannot write")
SMALL_GLYPHS = "glyphs:size=48,images_per_class=2,train_classes=2,test_classes=2"

EMBED = f"embed|@model.onnx|{IMAGE}"
EXPORT = "export|@model.safetensors"
CONVERT = "convert|@head.pt"
ADOPT = "adopt|@any.onnx"
EXPLAIN = f"explain|@model.safetensors|{IMAGE}"
INDEX = f"index|@model.onnx|{IMAGE}"
REPORT = "report|@model.onnx.json"
SEARCH = f"search|{IMAGE}|--index|@gallery|--model|@model.onnx"
PREVIEW = "data|preview|@images/classes"
TUNE = "tune|@model.safetensors|--data|@images/classes"

MINE = b"the user's own file, which mentions gsp-deploy and gsp_deploy\n"

ATTEMPTS: tuple[Attempt, ...] = (
    *each(
        "an output with a wrong suffix, or in a place that cannot be written",
        {
            f"{EMBED}|-o|>t.txt": (2, "expected an output ending in"),
            f"{EMBED}|-o|/proc/t.npy": NO_PLACE,
            f"{EMBED}|-o|@model.onnx/t.npy": NO_PLACE,
            f"{REPORT}|-o|>r.txt": (2, "ending in .html"),
            f"{EXPORT}|-o|>m.bin": (2, "ending in .onnx"),
            f"{EXPORT}|-o|/proc/m.onnx": NO_PLACE,
            f"{ADOPT}|-o|>m.bin": (2, "ending in .onnx"),
            f"{ADOPT}|-o|/proc/m.onnx": NO_PLACE,
            f"{CONVERT}|-o|>c.pt": (2, "ending in .safetensors"),
            f"{CONVERT}|-o|/proc/c.safetensors": NO_PLACE,
            "build|@model.onnx|-o|>m.bin": (2, "ending in .engine"),
            "build|@model.onnx|-o|/proc/m.engine": NO_PLACE,
            "package|@model.onnx|-o|/proc/bundle": NO_PLACE,
            f"{INDEX}|-o|/proc/index": NO_PLACE,
            f"{EXPLAIN}|-o|/proc/maps": NO_PLACE,
            f"{EXPLAIN}|-o|@model.onnx": NO_PLACE,
            f"{REPORT}|-o|/proc/r.html": NO_PLACE,
            f"{SEARCH}|--sheet|/proc/s.html": NO_PLACE,
            f"{PREVIEW}|-o|/proc/s.png": NO_PLACE,
            f"data|write|{SMALL_GLYPHS}|-o|/proc/written": NO_PLACE,
            f"{TUNE}|--folder|/proc/study": NO_PLACE,
            "demo|-o|/proc/demo": NO_PLACE,
            "demo|-o|@model.onnx": (2, "choose another folder"),
            "train|@recipe.toml|-o|/proc/run": (1, "/proc/run"),
            "train|@recipe.toml|-o|@model.onnx": (1, "model.onnx: Not a directory"),
        },
    ),
    *(
        Attempt("the output exists", command, 2, "--force to", there=there)
        for command, there in (
            (f"{EMBED}|-o|>t.npy", "t.npy"),
            (f"{EMBED}|-o|>t.npy", "t.ids.txt"),
            (f"{EXPORT}|-o|>m.onnx", "m.onnx"),
            (f"{EXPORT}|-o|>m.onnx", "m.onnx.json"),
            (f"{ADOPT}|-o|>m.onnx", "m.onnx"),
            (f"{CONVERT}|-o|>c.safetensors", "c.safetensors"),
            ("build|@model.onnx|-o|>m.engine", "m.engine"),
            ("build|@model.onnx|-o|>m.engine", "m.engine.json"),
            (f"{EXPLAIN}|-o|>", "plain.png"),
            ("package|@model.onnx|-o|>bundle", "bundle/bundle.json"),
            (f"{INDEX}|-o|>index", "index/index.json"),
            (f"{SEARCH}|--sheet|>s.html", "s.html"),
            (f"{PREVIEW}|-o|>s.png", "s.png"),
            (f"{TUNE}|--folder|>study|--max-drop|1|-o|>best.onnx", "best.onnx"),
            ("train|@recipe.toml|-o|>run", "run/state.pt"),
            ("demo|-o|>demo", "demo/demo.json"),
            (f"{REPORT}|-o|>r.html", "r.html"),
        )
    ),
    *(
        Attempt(
            "the output is the user's own file, and --force is given",
            f"{command}|--force",
            2,
            "gsp-deploy did not make",
            there=there,
            holds=MINE,
        )
        for command, there in (
            (f"{EMBED}|-o|>t.npy", "t.npy"),
            (f"{EMBED}|-o|>t.npy", "t.ids.txt"),
            (f"{EMBED}|-o|>t.npz", "t.npz"),
            (f"{EXPORT}|-o|>m.onnx", "m.onnx"),
            (f"{EXPORT}|-o|>m.onnx", "m.onnx.json"),
            (f"{EXPORT}|-o|>m.onnx", "m.onnx.data"),
            (f"{ADOPT}|-o|>m.onnx", "m.onnx"),
            (f"{CONVERT}|-o|>c.safetensors", "c.safetensors"),
            ("build|@model.onnx|-o|>m.engine", "m.engine"),
            (f"{EXPLAIN}|-o|>", "plain.png"),
            (f"{SEARCH}|--sheet|>s.html", "s.html"),
            (f"{SEARCH}|--sheet|>s.png", "s.png"),
            (f"{PREVIEW}|-o|>s.png", "s.png"),
            (f"{PREVIEW}|-o|>s.jpg", "s.jpg"),
            (f"{TUNE}|--folder|>study|--max-drop|1|-o|>best.onnx", "best.onnx"),
            (f"{TUNE}|--folder|>study|--max-drop|1|-o|>best.onnx", "best.onnx.json"),
            (f"{TUNE}|--folder|>study|--max-drop|1|-o|>best.onnx", "best.onnx.tune.json"),
            ("bench|@model.onnx|--save|>b.json", "b.json"),
            (f"{REPORT}|-o|>r.html", "r.html"),
            (f"{REPORT}|-o|>r.html|--markdown|>r.md", "r.md"),
        )
    ),
    Attempt(
        "the output folder contains the user's own file",
        "train|@recipe.toml|-o|>run|--force",
        2,
        "contains diary but no training run",
        there="run/diary",
        holds=MINE,
    ),
    *(
        Attempt(
            "the output folder contains the user's own file",
            f"train|@recipe.toml|-o|>run{force}",
            2,
            f"contains {name} but no training run; choose another folder",
            there=f"run/{name}",
            holds=MINE,
        )
        for name in ("recipe.toml", "best.safetensors")
        for force in ("", "|--force")
    ),
    *(
        Attempt("an input is the output, or inside the output folder", command, 2, said)
        for command, said in (
            (
                "explain|@model.safetensors|@images/classes|-o|@images|--force",
                "is inside the output",
            ),
            (
                "export|--from|@model.onnx|--pooling|plugin|-o|@model.onnx|--force",
                "is also an input",
            ),
            (
                "report|@model.onnx.json|-o|>r.html|--markdown|@model.onnx.json|--force",
                "is also an input",
            ),
            ("bench|@model.onnx|--save|@model.onnx.json|--force", "is also an input"),
            ("package|@bundle/model.onnx|-o|@bundle|--force", "is inside the output"),
            (f"package|@model.onnx|--images|{IMAGE}|-o|@images|--force", "is inside the output"),
            ("embed|@model.onnx|@sources/t.ids.txt|-o|@sources/t.npy|--force", "is also an input"),
            (f"{SEARCH}|--sheet|{IMAGE}|--force", "is also an input"),
            (f"{REPORT}|-o|>r.html|--markdown|>r.html", "both the page and its tables"),
        )
    ),
    *(
        Attempt("the output is something else", command, 2, "choose another", there="diary")
        for command in (
            "package|@model.onnx|-o|>|--force",
            f"{INDEX}|-o|>|--force",
            "demo|--output|>|--force",
            f"data|write|{SMALL_GLYPHS}|-o|>",
        )
    ),
    *(
        Attempt(
            "the disk is full",
            command,
            1,
            "No space left on device",
            there=there,
            failing=errno.ENOSPC,
        )
        for command, there in (
            (f"{EMBED}|-o|>t.npy|--force", "t.npy"),
            (f"{EMBED}|-o|>t.npy|--force", "t.ids.txt"),
            (f"{EXPORT}|-o|>m.onnx|--force|--iterations|2", "m.onnx"),
            (f"{EXPORT}|-o|>m.onnx|--force|--iterations|2", "m.onnx.json"),
            (f"{CONVERT}|-o|>c.safetensors|--force", "c.safetensors"),
            ("package|@model.onnx|-o|>bundle", None),
            (f"{INDEX}|-o|>index", None),
            (f"{EXPLAIN}|-o|>maps", None),
            (f"{SEARCH}|--sheet|>s.html|--force", "s.html"),
            (f"{PREVIEW}|-o|>s.png|--force", "s.png"),
            (f"{REPORT}|-o|>r.html|--force", "r.html"),
            (f"{TUNE}|--folder|>study", None),
            ("train|@recipe.toml|-o|>run", None),
        )
    ),
)
