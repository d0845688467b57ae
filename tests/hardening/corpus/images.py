"""Images that are missing, broken, or of every kind there is; data sets of them."""

from __future__ import annotations

from hardening.attempts import Attempt, crossed, each

from .models import IMAGE, MISSING

TAKING_IMAGES = (
    "embed|@model.onnx|?|-o|>t.npy",
    "explain|@model.safetensors|?|-o|>maps",
    "index|@model.onnx|?|-o|>index",
    "index-add|@model.onnx|?|--to|@gallery",
    "search|?|--index|@gallery|--model|@model.onnx",
    "check|@model.onnx|@model.onnx|--images|?",
    "migrate-check|--gallery|@gallery|--old|@model.onnx|--new|@model.onnx|--images|?",
    "report|@model.onnx.json|-o|>r.html|--reference|@model.onnx|--model|@model.onnx|--images|?",
    "package|@model.onnx|-o|>bundle|--images|?",
    "export|@model.safetensors|-o|>m.onnx|--calibrate|?",
)
TAKING_DATA = (
    "evaluate|@model.onnx|--data|?",
    "tune|@model.safetensors|--data|?|--folder|>study",
    "train|@recipe.toml|-o|>run|--data|?",
    "data|check|?",
    "data|preview|?|-o|>sheet.png",
    "data|write|?|-o|>written",
)
SHEET = "--sheet|>ä ö/日本 🎏.html"

ATTEMPTS: tuple[Attempt, ...] = (
    *crossed("images that are missing", TAKING_IMAGES, {"@none.png": MISSING}),
    *crossed("a folder without images", TAKING_IMAGES, {"@empty": (1, "no image")}),
    *crossed(
        "only images that cannot be read",
        TAKING_IMAGES[:-2],  # `package` shows its golden images as they are
        {"@images/broken": (1, "none of the 5 images can be read")},
    ),
    *crossed(
        "one image that cannot be read",
        ("embed|@model.onnx|?|-o|>t.npy", "package|@model.onnx|-o|>bundle|--images|?"),
        {
            "@images/broken/zero bytes.png": (1, "not an image"),
            "@images/broken/108 megapixels.png": (1, "64,000,000"),
            "@images/broken/4 gigapixels.png": (1, "beyond the limit"),
            "@images/broken/truncated.png": (1, "damaged image"),
            "@images/broken/text.jpg": (1, "not an image"),
        },
    ),
    *each(
        "unreadable images, for a command that needs all of them",
        {f"embed|@model.onnx|--strict|@images/broken|{IMAGE}|-o|>t.npy": (1, "scale it down")},
    ),
    *each(
        "an image pattern without a match",
        {
            "embed|@model.onnx|@none/*.png|-o|>t.npy": (1, "matches nothing"),
            "embed|@model.onnx|a\nb\x1b[2J|-o|>t.npy": (1, r"a\nb\x1b[2J: the pattern"),
            "search|@none/*.png|--index|@gallery|--model|@model.onnx": (1, "matches nothing"),
        },
    ),
    *crossed(
        "a data set that is missing, empty, or unknown",
        TAKING_DATA,
        {
            "folder:/none": MISSING,
            "csv:/none.csv": MISSING,
            "cub:/none": MISSING,
            "@empty": (1, "found none"),
            "@binary.csv": (1, r"\x1b"),
            "@model.onnx": (1, "cannot be read as CSV"),
            "nonsense": (2, "no data set 'nonsense'"),
            "glyphs:colour=1": (2, "no option 'colour=1'"),
            "glyphs:size=1": (2, "size must be from 32 to 1024"),
        },
    ),
    Attempt(
        "images that cannot be read, among others",
        f"embed|@model.onnx|@images/broken|{IMAGE}|-o|>t.npy",
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
    *(
        Attempt(
            "spaces, unicode and brackets in paths", command, 0, made=frozenset(made.split("|"))
        )
        for command, made in (
            (
                "embed|@model.onnx|@images/names|-o|>ä ö/日本 🎏.npy",
                "ä ö/日本 🎏.npy|ä ö/日本 🎏.ids.txt",
            ),
            (
                "export|@model.safetensors|-o|>日本 [🎏].onnx|--iterations|2",
                "日本 [🎏].onnx|日本 [🎏].onnx.json",
            ),
            (f"explain|@model.safetensors|{IMAGE}|-o|>ä ö [🎏]", "ä ö [🎏]/plain.png"),
            (
                f"search|@images/names|--index|@gallery|--model|@model.onnx|{SHEET}",
                "ä ö/日本 🎏.html",
            ),
            (
                "index|@model.onnx|@images/names|-o|>ä [🎏]",
                "ä [🎏]/files.json|ä [🎏]/index.faiss|ä [🎏]/index.json",
            ),
            ("report|@model.onnx.json|-o|>ä ö/日本 🎏.html", "ä ö/日本 🎏.html"),
            ("data|preview|@images/classes|-o|>ä ö/日本 🎏.png", "ä ö/日本 🎏.png"),
            ("convert|@head.pt|-o|>ä ö/日本 🎏.safetensors", "ä ö/日本 🎏.safetensors"),
        )
    ),
)
