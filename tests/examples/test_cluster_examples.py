"""The manifests for clusters: known fields only, and commands that the command line has.

The published schemas are too large to keep here (KubeRay's CRD alone has 1.4 MB). `FIELDS` has
those of their fields that the examples may use, with their types. On 2026-11-29 both manifests
passed the whole schemas, unknown fields refused: Kubernetes 1.31's `Job`, KubeRay's `RayJob` v1.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from gsp_deploy_cli.main import app
from gsp_deploy_cli.options import inputs

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples" / "cluster"
TEXT, WHOLE, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def fields(required: str = "", **known: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": known,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


CONTAINER = fields(
    "name image",
    name=TEXT,
    image=TEXT,
    command=several(TEXT),
    args=several(TEXT),
    env=several(fields("name", name=TEXT, value=TEXT)),
    resources=fields(requests=TEXTS, limits=TEXTS),
    volumeMounts=several(fields("name mountPath", name=TEXT, mountPath=TEXT)),
)
VOLUME = fields("name", name=TEXT, persistentVolumeClaim=fields("claimName", claimName=TEXT))
POD = fields(
    "spec",
    spec=fields(
        "containers",
        restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
        containers=several(CONTAINER),
        volumes=several(VOLUME),
    ),
)
META = fields("name", name=TEXT)
JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "batch/v1"},
    kind={"const": "Job"},
    metadata=META,
    spec=fields(
        "template",
        completionMode={"enum": ["Indexed", "NonIndexed"]},
        completions=WHOLE,
        parallelism=WHOLE,
        backoffLimitPerIndex=WHOLE,
        maxFailedIndexes=WHOLE,
        template=POD,
    ),
)
RAY_JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=META,
    spec=fields(
        "rayClusterSpec",
        entrypoint=TEXT,
        shutdownAfterJobFinishes=TRUTH,
        backoffLimit=WHOLE,
        rayClusterSpec=fields(
            "headGroupSpec",
            enableInTreeAutoscaling=TRUTH,
            headGroupSpec=fields("template", rayStartParams=TEXTS, template=POD),
            workerGroupSpecs=several(
                fields(
                    "groupName template",
                    groupName=TEXT,
                    replicas=WHOLE,
                    minReplicas=WHOLE,
                    maxReplicas=WHOLE,
                    rayStartParams=TEXTS,
                    template=POD,
                )
            ),
        ),
    ),
)
FIELDS = {"indexed-job.yaml": JOB, "rayjob.yaml": RAY_JOB}


@pytest.mark.parametrize("name", FIELDS)
def test_a_manifest_has_known_fields(name: str) -> None:
    manifest = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    jsonschema.validate(manifest, FIELDS[name])
    assert {path.name for path in EXAMPLES.glob("*.yaml")} == set(FIELDS)


def test_a_shard_for_each_completion() -> None:
    job = yaml.safe_load((EXAMPLES / "indexed-job.yaml").read_text(encoding="utf-8"))["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert f'"$JOB_COMPLETION_INDEX/{job["completions"]}"' in container["args"][0]


def commands() -> list[str]:
    """Return every command of gsp-deploy in the examples."""
    found = []
    for path in sorted(EXAMPLES.iterdir()):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        if path.suffix == ".yaml":
            texts = [value for value in values(yaml.safe_load(text)) if "gsp-deploy embed" in value]
        else:
            texts = re.findall(r"^gsp-deploy .*$", text, re.MULTILINE)
        found += texts
    return found


def values(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in values(value)]
    if isinstance(node, list):
        return [text for value in node for text in values(value)]
    return [node] if isinstance(node, str) else []


def test_the_commands_are_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "check_readable", lambda path: None)
    group = typer.main.get_command(app)
    assert len(commands()) == 3
    for line in commands():
        program, *words = shlex.split(re.sub(r"\$\w+", "4", line))
        assert program == "gsp-deploy"
        context = group.make_context("gsp-deploy", list(words))
        name, command, rest = group.resolve_command(context, words)
        command.make_context(name, rest, parent=context)
