"""Go through the candidates: export, score and time what a study lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gsp_deploy.artifact import ExportManifest, read_sidecar
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import ONNX
from gsp_deploy.base.progress import Progress
from gsp_deploy.errors import GspDeployError
from gsp_deploy.runtime.session import RUNTIME_WORDS
from gsp_deploy.tuning.measurement import Workshop
from gsp_deploy.tuning.space import Candidate
from gsp_deploy.tuning.study import Study


class StudyRun:
    """One pass over all candidates; measurements in the study are not repeated."""

    def __init__(
        self,
        study: Study,
        workshop: Workshop,
        candidates: Sequence[Candidate],
        observe: Progress,
    ) -> None:
        self.study, self.workshop, self.candidates = study, workshop, candidates
        self.observe = observe

    def run(self) -> None:
        """Measure what is missing, and save each result and each failure at once.

        Raises:
            GspDeployError: the reference cannot be measured.
        """
        for number, candidate in enumerate(self.candidates):
            if candidate.name in self.study.failures:
                continue
            try:
                self._measure(candidate, number)
            except GspDeployError as error:
                if number == 0:
                    raise  # without the reference there is nothing to compare with
                self.study.failures[candidate.name] = str(error)
                self.study.save()
        self.observe("done", len(self.candidates), len(self.candidates))

    def _measure(self, candidate: Candidate, number: int) -> None:
        study, name = self.study, candidate.name
        if self._repeats(candidate):
            return
        if name not in study.qualities:
            self._announce(f"exporting {name}", number)
            exported = self._export(candidate)
            self._announce(f"scoring {name}", number)
            study.qualities[name] = self.workshop.score(exported, candidate.runtime)
            study.save()
        batches = study.missing_batches(candidate, self.workshop.settings.batches)
        if not batches or study.qualities[name].emulated:
            return
        self._announce(f"timing {name}", number)
        model, reference = (self._file(c) for c in (candidate, self.candidates[0]))
        speeds = self.workshop.time(model, reference, batches, candidate.runtime)
        study.speeds.setdefault(name, {}).update(speeds)
        study.save()

    def _announce(self, doing: str, number: int) -> None:
        self.observe(doing, number, len(self.candidates))

    def _repeats(self, candidate: Candidate) -> bool:
        """Whether this candidate has as many steps as the certified one, and so is the same."""
        certified = self.study.qualities.get(_certified(candidate).name)
        return candidate.steps is not None and (
            certified is not None and certified.solver_steps == candidate.steps
        )

    def _export(self, candidate: Candidate) -> Artifact[ExportManifest]:
        """Export a candidate, unless another runtime has measured its file already."""
        path = self.study.model_path(candidate)
        if self._is_measured(path, self._others(candidate)) and (found := read_sidecar(path)):
            return Artifact(path, ONNX, found)
        return self._export_anew(candidate)

    def _others(self, candidate: Candidate) -> Iterator[str]:
        """Yield the hash that was measured of the same file in each other runtime."""
        for word in RUNTIME_WORDS:
            other = replace(candidate, runtime=word)
            if other != candidate and other.name in self.study.qualities:
                yield self.study.qualities[other.name].sha256

    def _is_measured(self, path: Path, hashes: Iterable[str]) -> bool:
        return path.exists() and identity(path) in set(hashes)

    def _export_anew(self, candidate: Candidate) -> Artifact[ExportManifest]:
        sibling = self.study.model_path(_certified(candidate))
        return self.workshop.export(candidate, self.study.model_path(candidate), sibling)

    def _file(self, candidate: Candidate) -> Path:
        """Return the file that was scored; export it again if it is missing or differs."""
        path = self.study.model_path(candidate)
        measured = self.study.qualities[candidate.name].sha256
        if not self._is_measured(path, [measured]) or read_sidecar(path) is None:
            self._export_anew(candidate)
        return path


def _certified(candidate: Candidate) -> Candidate:
    return replace(candidate, steps=None)
