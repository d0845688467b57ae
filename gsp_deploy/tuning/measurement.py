"""Export one candidate, score it and time it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.identity import identity
from gsp_deploy.base.choices import RuntimeWord
from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.benchmark.inputs import example_inputs
from gsp_deploy.benchmark.run import OUTPUTS
from gsp_deploy.benchmark.timing import Latency, Rounds, interleave, ratio_quartiles
from gsp_deploy.data import Dataset
from gsp_deploy.export.quantisation import cache_path
from gsp_deploy.parity import open_rounding
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.retrieval.evaluation import evaluate
from gsp_deploy.runtime import EmbeddingSession, SessionOptions, open_session
from gsp_deploy.tuning.engines import engine_of
from gsp_deploy.tuning.forms import Forms
from gsp_deploy.tuning.images import CalibrationImages
from gsp_deploy.tuning.space import Candidate
from gsp_deploy.tuning.study import Quality, Speed


@dataclass(frozen=True)
class Workshop:
    """Everything needed to make and measure candidates.

    Attributes:
        forms: the forms of the model.
        dataset: data set to score on.
        calibration: images that calibrate int8.
        int8_drop: points of MAP@R that int8 may lose before layers stay in float32.
        settings: settings of the benchmark.
        engines: measure TensorRT engines built from the exports, instead of ONNX Runtime.
    """

    forms: Forms
    dataset: Dataset
    calibration: CalibrationImages
    int8_drop: float
    settings: BenchmarkSettings
    engines: bool = False

    def export(
        self, candidate: Candidate, path: Path, sibling: Path | None = None
    ) -> Artifact[ExportManifest]:
        """Export a candidate to `path`.

        `sibling` is an export of the same precision and size; its int8 ranges are reused.

        Raises:
            GspDeployError: the candidate cannot be exported.
        """
        own = self.forms.config.preprocessing
        assert own is not None  # `reference_of` refused a head alone
        quantised = PRECISIONS[candidate.precision].quantised
        images = self.calibration.at(candidate.preprocessing(own)) if quantised else None
        if images is not None and sibling is not None and cache_path(sibling).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache_path(sibling), cache_path(path))
        return self.forms.make(candidate, path, images, self.int8_drop)

    def score(
        self, exported: Artifact[ExportManifest], runtime: RuntimeWord = "onnxruntime"
    ) -> Quality:
        """Return retrieval metrics on the test images, by the data set's protocol if it has one."""
        chosen = self.settings
        options = SessionOptions(
            chosen.device,
            threads=chosen.threads,
            provider=chosen.provider,
            runtime=None if self.engines else runtime,
        )
        with open_rounding(self._artifact(exported.path), options) as session:
            (found,) = evaluate([session], self.dataset, ranks=(1,)).models.values()
            emulated = session.info.emulated
        certificate = exported.manifest.certificate
        return Quality(
            sha256=identity(exported.path),
            solver_steps=None if certificate is None else certificate.steps,
            map_at_r=100 * found.map_at_r,
            recall_at_1=100 * found.recall_at[1],
            emulated=emulated,
            notes=tuple(_notes(exported.manifest)),
        )

    def time(
        self,
        model: Path,
        reference: Path,
        batches: tuple[int, ...],
        runtime: RuntimeWord = "onnxruntime",
    ) -> dict[int, Speed]:
        """Time a candidate and the reference, both exports, in turns; return a speed per batch.

        `runtime` runs the candidate; the reference runs in ONNX Runtime.
        """
        with (
            self._open(reference, batches) as baseline,
            self._open(model, batches, runtime) as candidate,
        ):
            speeds = {batch: self._speed(baseline, candidate, batch) for batch in batches}
        if model != reference or runtime != "onnxruntime":
            return speeds
        # The reference against itself is 1 by definition; its quartiles show the machine's noise.
        return {batch: replace(speed, ratio=1.0) for batch, speed in speeds.items()}

    def _artifact(self, onnx: Path) -> Path:
        """Return the file to measure: the export's engine, or the export itself."""
        return engine_of(onnx, max(self.settings.batches)) if self.engines else onnx

    def _open(
        self, onnx: Path, batches: tuple[int, ...], runtime: RuntimeWord = "onnxruntime"
    ) -> EmbeddingSession:
        settings = self.settings
        return open_session(
            self._artifact(onnx),
            settings.device,
            threads=settings.threads,
            provider=settings.provider,
            max_batch=max(batches),
            runtime=None if self.engines else runtime,
        )

    def _speed(self, reference: EmbeddingSession, model: EmbeddingSession, batch: int) -> Speed:
        tasks = [
            partial(session.infer, example_inputs(session, batch, self.settings), OUTPUTS)
            for session in (reference, model)
        ]
        baseline, times = interleave(tasks, Rounds.of(self.settings)).T
        low, ratio, high = ratio_quartiles(times, baseline)
        return Speed(ratio, low, high, reference_p50=Latency.of(baseline).p50)


def _notes(manifest: ExportManifest) -> list[str]:
    record, certificate = manifest.quantisation, manifest.certificate
    notes = []
    if record is not None:
        kept = len(record.float_layers)
        notes.append(
            f"{kept} of {record.layers} layers stay in fp32" if kept else "every layer in int8"
        )
        notes += record.notes
    if certificate is not None and not certificate.is_converged:
        error = 100 * certificate.worst_relative_weight_error
        notes.append(f"the solver leaves the weights wrong by up to {error:.2g} % of their spread")
    return notes
