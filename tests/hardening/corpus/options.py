"""Options outside their domain."""

from __future__ import annotations

from hardening.attempts import Attempt, each

from .models import IMAGE

EMBED = f"embed|@model.onnx|{IMAGE}|-o|>t.npy"
EXPORT = "export|@model.safetensors|-o|>m.onnx"
SEARCH = f"search|{IMAGE}|--index|@gallery|--model|@model.onnx"
TUNE = "tune|@model.safetensors|--data|@images/classes|--folder|>study"
PREVIEW = "data|preview|@images/classes"

ATTEMPTS: tuple[Attempt, ...] = each(
    "an option outside its domain",
    {
        f"{EMBED}|--device|tpu": (2, "device must be"),
        f"{EMBED}|--threads|0": (2, "threads must be"),
        f"{EMBED}|--batch|0": (2, "--batch"),
        f"{EMBED}|--provider|none": (4, "this ONNX Runtime has no"),
        f"{EMBED}|--ep-library|@model.onnx": (4, "cannot load it as an execution provider"),
        f"{EMBED}|--ep-library|>none.so": (2, "no such file"),
        f"{EMBED}|--session-option|ep.context_enable": (2, "expected NAME=VALUE"),
        f"{EMBED}|--session-option|nonsense=1": (2, "has no session option"),
        f"{EXPORT}|--precision|fp7": (2, "precision"),
        f"{EXPORT}|--opset|3": (2, "opset"),
        "build|@model.onnx|-o|>m.engine|--flavour|none": (2, "--flavour must be one of tensorrt"),
        "adopt|@any.onnx|-o|>m.onnx|--size|32": (2, "takes images of 16x16"),
        "adopt|@any.onnx|-o|>m.onnx|--output|none": (2, "has no output 'none'"),
        "adopt|@any.onnx|-o|>m.onnx|--like|timm/none": (2, "timm has no network none"),
        f"{TUNE}|--precision|fp7": (2, "precision must be one of"),
        f"{TUNE}|--steps|many": (2, "--steps takes numbers"),
        f"{TUNE}|-o|>best.onnx": (2, "pass --max-latency or --max-drop"),
        "bench|@model.onnx|--batch|0": (2, "at least 1"),
        "bench|@model.onnx|--batch|many": (2, "--batch takes whole numbers"),
        f"check|@model.onnx|@model.onnx|--images|{IMAGE}|--device|tpu": (2, "device must be"),
        f"index|@model.onnx|{IMAGE}|-o|>index|--kind|none": (2, "kind must be one of"),
        f"index|@model.onnx|{IMAGE}|-o|>index|--recall|0.9": (2, "flat index is exact"),
        f"index|@model.onnx|{IMAGE}|-o|>index|--kind|ivf|--recall|99": (2, "above 0 and at most 1"),
        "index-add|@model.onnx|--to|@gallery": (2, "name the images to index after it"),
        "index-remove|@gallery|none.png": (2, "the gallery has no image 'none.png'"),
        "index-remove|@gallery|*": (2, "this would remove every image"),
        f"index|@model.onnx|{IMAGE}": (2, "name a folder with --output, or a vector server"),
        "index-compact|@gallery|--recall|0.9": (2, "flat index is exact"),
        "index-compact|qdrant:a/b": (1, "no such collection"),
        "index-compact|lance:none/photos|--recall|2": (2, "above 0 and at most 1"),
        "index-remove|lance:none/photos|a.png": (1, "no such collection"),
        f"index-add|@model.onnx|{IMAGE}|--to|lance:none/photos": (1, "no such collection"),
        f"index|@model.onnx|{IMAGE}|--to|lance|photos": (1, "expected a place of lance"),
        f"index|@model.onnx|{IMAGE}|--to|lance|>q/p|--kind|ivf": (2, "or by --kind ivf-pq"),
        f"index|@model.onnx|{IMAGE}|--to|none|a/b": (2, "expected a server of qdrant"),
        f"index|@model.onnx|{IMAGE}|--to|qdrant|http://h": (1, "expected a place of qdrant"),
        f"index|@model.onnx|{IMAGE}|--to|qdrant|>q/p|--force": (2, "--output and --force out"),
        f"index|@model.onnx|{IMAGE}|--to|qdrant|http://127.0.0.1:1/p": (1, "check the URI"),
        "index|@model.onnx|-o|>index": (2, "name the images to index after it"),
        f"index|@model.onnx|{IMAGE}|-o|>index|--model|@model.onnx": (2, "--model belongs to embed"),
        f"{SEARCH}|-k|0": (2, "--count must be at least 1"),
        f"{SEARCH}|--sheet|>s.txt": (2, "expected a sheet named"),
        "verify|@bundle|--device|tpu": (2, "device must be"),
        "verify|@bundle|--threads|0": (2, "threads must be"),
        "serve|@model.onnx|--port|99999999": (2, "--port"),
        "serve|@model.onnx|--name|a b": (2, "a model's name is part of URLs"),
        "serve|@model.onnx|--host|nowhere.invalid": (1, "cannot listen on nowhere.invalid"),
        "demo|-o|>demo|--classes|1": (2, "--classes"),
        "demo|-o|>demo|--images-per-class|1": (2, "--images-per-class"),
        "doctor|--gpu|-1": (2, "--gpu"),
        f"{PREVIEW}|-o|>s.txt": (2, "expected a sheet named"),
        f"{PREVIEW}|-o|>s.png|--part|none": (2, "has the parts"),
        f"{PREVIEW}|-o|>s.png|--count|0": (2, "--count"),
        "data|write|@images/classes|-o|>written": (2, "expected a built-in data set to write"),
    },
)
