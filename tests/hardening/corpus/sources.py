"""Sources of many images that are damaged or refuse, and data sets that cannot be written."""

from __future__ import annotations

import errno

from hardening.attempts import Attempt, crossed, each

from .models import MISSING

# One source for both kinds of output.
TAKING_SOURCES = ("embed|@model.onnx|?|-o|>t.npz", "embed|@model.onnx|?|-o|>out|--workers|1")
OUT = "-o|>out|--workers|1"

ATTEMPTS: tuple[Attempt, ...] = (
    *crossed(
        "sources of many images",
        TAKING_SOURCES,
        {
            "@none.tar": MISSING,
            "@none.csv": MISSING,
            "@binary.csv": (2, "expected a column path or"),
            "@sources/text.tar": (1, "not a whole tar file"),
            "@sources/cut.tar": (1, "not a whole tar file"),
            "@sources/text.parquet": (1, "not a whole table"),
            "@sources/text.arrow": (1, "not a whole table"),
            "@sources/no images.csv": (2, "expected a column path or"),
            "@sources/no images.parquet": (2, "expected a column of images"),
            "memory://nowhere/a.tar": (2, "no such file or folder"),
            "nowhere://a/b": (1, "Protocol not known"),
            "https://": (1, "cannot be read"),
        },
    ),
    *each(
        "data sets",
        {
            f"embed|@model.onnx|@images/names|{OUT}|--shard|2/2": (2, "expected a shard i/n"),
            f"embed|@model.onnx|@images/names|{OUT}|--also|logits": (2, "must be one of"),
            f"embed|@model.onnx|@images/names|{OUT}|--address|x": (2, "belongs to --on ray"),
            f"embed|@model.onnx|@images/names|{OUT}|--store|int4": (2, "must be one of"),
            "embed|@model.onnx|@images/names|-o|@images": (2, "which embed did not make"),
            "embed|@model.onnx|@images/names|-o|>t.npy|--store|int8": (2, "belongs to a data set"),
            "evaluate|@sources|--data|@images/classes": (2, ""),
            "check|@sources|@model.onnx|--images|@images/names": (2, ""),
        },
    ),
    Attempt(
        "a list of images that are gone",
        f"embed|@model.onnx|@sources/gone.txt|{OUT}",
        1,
        "none of the 2 images can be read",
        made=frozenset({"out/.lock", "out/part-00000.parquet", "out/failures-00000.parquet"}),
    ),
    Attempt(
        "a data set on a full disk",
        f"embed|@model.onnx|@images/names|{OUT}",
        1,
        "No space left on device",
        failing=errno.ENOSPC,
    ),
)
