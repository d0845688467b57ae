"""Run the parts of a proof one after another."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gsp_deploy.base.progress import Announce
from gsp_deploy.doctor.diagnosis import Diagnosis
from gsp_deploy.doctor.selftest import run_selftest
from gsp_deploy.errors import GateError, GspDeployError, MissingCapabilityError, reason_of
from gsp_deploy.proof.document import Finding, Proof, State


@dataclass(frozen=True)
class ProofSettings:
    """What to prove, and where.

    Attributes:
        device: `cuda`, or `cpu` for a rehearsal.
        lab: the kernel's lab program; None leaves that part out.
        tests: the folder of this package's tests; None leaves that part out.
        model: an ONNX export with its manifest, to run on the GPU; None leaves that part out.
    """

    device: str = "cuda"
    lab: Path | None = None
    tests: Path | None = None
    model: Path | None = None

    @property
    def is_rehearsal(self) -> bool:
        """Whether nothing runs on a GPU, and sizes are small."""
        return self.device == "cpu"

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes of models."""
        return (1,) if self.is_rehearsal else (1, 8, 64)

    def required_model(self) -> Path:
        """Return the model, or raise `MissingCapabilityError` if there is none."""
        if self.model is None:
            raise MissingCapabilityError("no model: pass an ONNX export")
        return self.model


Part = Callable[[ProofSettings, Path], Finding]

# A part's name, and `module:function`. A module imports what its part needs at its top.
PARTS: Mapping[str, str] = {
    "pooling kernel": "gsp_deploy.proof.kernel:kernel_lab",
    "PyTorch layer, eager": "gsp_deploy.proof.torch_layer:eager",
    "PyTorch layer, compiled": "gsp_deploy.proof.torch_layer:compiled",
    "PyTorch layer, exported": "gsp_deploy.proof.torch_layer:exported",
    "ONNX Runtime": "gsp_deploy.proof.onnx_model:onnx_model",
    "ONNX Runtime, bound and captured": "gsp_deploy.proof.onnx_bound:onnx_bound",
    "clocks and power": "gsp_deploy.proof.telemetry:telemetry",
    "tests on the device": "gsp_deploy.proof.suite:device_tests",
}


def prove(
    diagnosis: Diagnosis, settings: ProofSettings, observe: Announce = lambda message: None
) -> Proof:
    """Try everything that this machine has, and return what was found.

    Args:
        diagnosis: of this machine.
        settings: what to prove.
        observe: called with the name of each part before it runs.
    """
    with tempfile.TemporaryDirectory(prefix="gsp-proof-") as folder:
        findings = tuple(_findings(diagnosis, settings, Path(folder), observe))
    return Proof(
        settings.is_rehearsal,
        datetime.date.today().isoformat(),
        {**diagnosis.machine, **diagnosis.gpu, **diagnosis.packages},
        findings,
    )


def _findings(
    diagnosis: Diagnosis, settings: ProofSettings, folder: Path, observe: Announce
) -> Iterator[Finding]:
    no_gpu = None if settings.is_rehearsal else diagnosis.no_gpu
    for name, reference in PARTS.items():
        observe(name)
        if no_gpu is not None:
            yield Finding(name, "not run", no_gpu)
        else:
            yield _tried(name, reference, settings, folder)
    for step in run_selftest(diagnosis, observe).steps:
        state: State = "not run" if step.state == "skipped" else step.state
        yield Finding(step.name, state, step.detail)


def _tried(name: str, reference: str, settings: ProofSettings, folder: Path) -> Finding:
    started = time.monotonic()
    module, function = reference.split(":")
    try:
        found: Finding = getattr(import_module(module), function)(settings, folder)
    except GateError as error:
        found = Finding(name, "failed", str(error))
    except (MissingCapabilityError, ModuleNotFoundError) as error:
        found = Finding(name, "not run", str(error))
    except GspDeployError as error:
        found = Finding(name, "error", str(error))
    except Exception as error:  # of torch, CUDA or a test: the other parts still run
        found = Finding(name, "error", f"{type(error).__name__}: {reason_of(error)}")
    seconds = time.monotonic() - started
    return Finding(name, found.state, found.detail, seconds, found.table, found.data)
