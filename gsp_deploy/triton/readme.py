"""Write the README of a model repository: how to start, query, check and measure it."""

from __future__ import annotations

from collections.abc import Sequence

from gsp_deploy.triton.configuration import PIXELS
from gsp_deploy.triton.model import ServedModel

_TEXT = """\
# {name}: a model repository for Triton Inference Server

| model | what it does |
|---|---|
{rows}

Clients request `{name}`: {described}.

## Start
```console
$ docker run --rm {gpus}-p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$PWD":/models:ro \\
    nvcr.io/nvidia/tritonserver:<yy.mm>-py3 \\
    tritonserver --model-repository=/models{options}
```
{note}
## Ask
```console
$ pip install 'gsp-deploy' 'tritonclient[http]'
$ python client.py photo.jpg other.jpg -o embeddings.npy
$ python client.py --check            # compare the golden images with their stored embeddings
```
`client.py` decodes and resizes images according to `preprocessing.json`, and sends uint8 pixels.

## Measure
```console
$ perf_analyzer -m {name} -u localhost:8001 -i grpc --shape {input}:{shape} \\
    --concurrency-range 1:16:5 --percentile=99 --measurement-interval 10000
```
`--shape` does not include the batch; `-b 8` sends eight images with each request. Change
`max_queue_delay_microseconds`, `preferred_batch_size` and `instance_group` in `config.pbtxt` and
measure again.
"""

_PLAN_NOTE = """
A plan runs only on the kind of GPU and with the TensorRT version that it was built for. Use a
container with that TensorRT version (see its release notes), or build the plan inside it.
"""


def readme(
    name: str, models: Sequence[str], server_options: Sequence[str], served: ServedModel
) -> str:
    """Return the README of one repository."""
    is_plan = served.backend == "tensorrt"
    height, width = (
        served.input.shape[1:3] if served.includes_preprocessing else served.input.shape[2:]
    )
    outputs = ", ".join(f"`{output.name}`" for output in served.outputs)
    source = served.input.name if served.includes_preprocessing else PIXELS
    return _TEXT.format(
        name=name,
        rows="\n".join(_rows(models, served)),
        described=f"{outputs} of `{source}`, uint8 (batch, {height}, {width}, 3), RGB",
        gpus="--gpus all " if is_plan else "",
        options="".join(f" \\\n    {option}" for option in server_options),
        note=_PLAN_NOTE if is_plan else "\nWith a GPU, add `--gpus all`.\n",
        input=source,
        shape=f"{_fixed(height)},{_fixed(width)},3",
    )


def _rows(models: Sequence[str], served: ServedModel) -> list[str]:
    runs = f"the network, by {served.backend}"
    if len(models) == 1:
        return [f"| `{models[0]}` | {runs}, with pre-processing in its graph |"]
    ensemble, first, network = models
    return [
        f"| `{ensemble}` | the ensemble of the two below |",
        f"| `{first}` | pre-processing: pixels to the network's input, by onnxruntime |",
        f"| `{network}` | {runs} |",
    ]


def _fixed(size: int | str) -> str:
    return str(size) if isinstance(size, int) else "224"
