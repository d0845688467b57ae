"""Models, bundles and galleries that are missing, damaged, or of another kind."""

from __future__ import annotations

from hardening.attempts import Attempt, crossed, each

IMAGE = "@images/names/plain.png"
MISSING = (2, "no such file or folder")
FOLDER = (2, "expected a file, and this is a folder")
CHANGED = (1, "differs): copy all of them again")

# Every command that takes a model, and `?` for the model.
EITHER = (
    f"embed|?|{IMAGE}|-o|>t.npy",
    f"explain|?|{IMAGE}|-o|>maps",
    f"index|?|{IMAGE}|-o|>index",
    f"search|{IMAGE}|--index|@gallery|--model|?",
    "evaluate|?|--data|@images/classes",
    f"check|?|@model.onnx|--images|{IMAGE}",
    f"check|@model.onnx|?|--images|{IMAGE}",
    "bench|?",
    f"report|@model.onnx.json|-o|>r.html|--reference|?|--model|@model.onnx|--images|{IMAGE}",
)
EXPORTED = ("build|?|-o|>m.engine", "package|?|-o|>bundle")
ADOPT = "adopt|?|-o|>m.onnx"
CHECKPOINT = (
    "export|?|-o|>m.onnx",
    "convert|?|-o|>c.safetensors",
    "tune|?|--data|@images/classes|--folder|>study",
)

ATTEMPTS: tuple[Attempt, ...] = (
    *crossed(
        "a model that is missing",
        (*EITHER, *EXPORTED, ADOPT, "serve|?", "inspect|?"),
        {"@none.onnx": MISSING},
    ),
    *crossed("a checkpoint that is missing", CHECKPOINT, {"@none.safetensors": MISSING}),
    *crossed(
        "a folder instead of a model",
        (*EITHER, *EXPORTED, ADOPT, "inspect|?"),
        {"@folder.onnx": FOLDER},
    ),
    *crossed("a folder instead of a checkpoint", CHECKPOINT, {"@folder.safetensors": FOLDER}),
    *crossed(
        "a model that is empty, is text, or is cut in half",
        (*EITHER, *EXPORTED, ADOPT, "serve|?", "inspect|?"),
        {
            "@nothing.onnx": (1, "nothing.onnx: "),
            "@text.onnx": (1, "text.onnx: "),
            "@truncated.onnx": (1, "truncated.onnx: "),
        },
    ),
    *crossed(
        "a checkpoint that is empty, is text, or is cut in half",
        (*EITHER, *CHECKPOINT, "serve|?", "inspect|?"),
        {
            "@nothing.safetensors": (1, "not a whole safetensors file"),
            "@text.safetensors": (1, "not a whole safetensors file"),
            "@truncated.safetensors": (1, "not a whole safetensors file"),
        },
    ),
    *crossed(
        "a model with one bit flipped", (*EITHER, *EXPORTED, "serve|?"), {"@flipped.onnx": CHANGED}
    ),
    Attempt("a model with one bit flipped", "inspect|@flipped.onnx", 0),
    *crossed(
        "a checkpoint with one bit flipped, or with NaN in its weights",
        # `convert` refuses our checkpoints by their header, before it reads the weights.
        (*EITHER, *(c for c in CHECKPOINT if not c.startswith("convert")), "serve|?", "inspect|?"),
        {
            "@flipped.safetensors": (1, "changed since it was saved"),
            "@nan.safetensors": (1, "tensor head.embed.weight holds NaN or infinity"),
        },
    ),
    *each(
        "a file of another kind",
        {
            f"embed|{IMAGE}|{IMAGE}|-o|>t.npy": (2, "expected a model ending in"),
            f"inspect|{IMAGE}": (2, "expected a model ending in"),
            "export|@model.onnx|-o|>m.onnx": (1, "expected a checkpoint, got an exported model"),
            "convert|@model.safetensors|-o|>c.safetensors": (2, "already a gsp-deploy checkpoint"),
            "adopt|@model.onnx|-o|>m.onnx": (2, "has a manifest of gsp-deploy already"),
            "adopt|@model.safetensors|-o|>m.onnx": (2, "expected a network ending in .onnx"),
            "build|@orphan.engine|-o|>m.engine": (2, "expected a model ending in"),
            "package|@model.safetensors|-o|>bundle": (2, "export a checkpoint first"),
            "package|@orphan.engine|-o|>bundle": (1, "has no manifest"),
            "tune|@model.onnx|--data|@images/classes": (2, "starts from a checkpoint"),
            "doctor|--plugin|@text.onnx": (4, "cannot load it as a shared object"),
            "doctor|--plugin|@nothing.onnx": (4, "cannot load it as a shared object"),
            "doctor|--plugin|@none.so": MISSING,
            "doctor|--plugin|@empty": FOLDER,
        },
    ),
    Attempt("an engine without its manifest, and without a GPU", "inspect|@orphan.engine", 0),
    *each(
        "a folder that is not a bundle, and a bundle that is changed or has a link to a folder",
        {
            "verify|@none": MISSING,
            "verify|@empty": (1, "not a bundle"),
            "verify|@model.onnx": (1, "not a bundle"),
            "verify|@damaged-bundle": (3, "its SHA-256 differs"),
            "verify|@linked-bundle": (3, "golden is a link to a folder"),
            "serve|@none": MISSING,
            "serve|@empty": (1, "not a bundle"),
            "serve|@damaged-bundle": (3, "its SHA-256 differs"),
            "serve|@linked-bundle": (3, "golden is a link to a folder"),
        },
    ),
    *crossed(
        "a folder that is not a gallery, and a changed gallery",
        (
            f"search|{IMAGE}|--index|?|--model|@model.onnx",
            f"index-add|@model.onnx|{IMAGE}|--to|?",
            "index-remove|?|*.png",
            "index-compact|?",
            f"migrate-check|--gallery|?|--old|@model.onnx|--new|@model.onnx|--images|{IMAGE}",
        ),
        {
            "@none": MISSING,
            "@empty": (1, "not a gallery"),
            "@model.onnx": (1, "not a gallery"),
            "@damaged-gallery": (1, "index again"),
        },
    ),
)
