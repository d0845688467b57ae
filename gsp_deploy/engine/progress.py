"""Turn TensorRT's progress monitor into one fraction that only grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gsp_deploy.engine.api import TensorRT

Report = Callable[[float, str], None]


class BuildProgress:
    """Nested phases with their steps, and the share of the whole that is done."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._phases: dict[str, list[int]] = {}  # done and all steps, outermost first
        self._best = 0.0
        self._lock = threading.Lock()  # TensorRT calls from several threads

    def start(self, phase: str, steps: int) -> None:
        """Enter a phase."""
        with self._lock:
            self._phases[phase] = [0, max(steps, 1)]
            self._announce(phase)

    def step(self, phase: str, step: int) -> None:
        """Note that a step is done, counted from 0."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase][0] = step + 1
                self._announce(phase)

    def finish(self, phase: str) -> None:
        """Leave a phase, even if not all its steps were reported."""
        with self._lock:
            self._phases.pop(phase, None)

    def _announce(self, phase: str) -> None:
        done, width = 0.0, 1.0
        for finished, steps in self._phases.values():
            done += width * min(finished, steps) / steps
            width /= steps
        self._best = max(self._best, min(done, 1.0))
        self._report(self._best, phase)


def make_monitor(tensorrt: TensorRT, progress: BuildProgress) -> Any:
    """Return an `IProgressMonitor` that feeds `progress`.

    An interrupt that reaches Python inside a callback must not pass through TensorRT. It is kept
    in `interrupted` and ends the build at the next step.
    """

    class Monitor(tensorrt.module.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.interrupted: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guarded(progress.start, phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guarded(progress.step, phase_name, step)
            return self.interrupted is None

        def phase_finish(self, phase_name: str) -> None:
            self._guarded(progress.finish, phase_name)

        def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
            try:
                call(*arguments)
            except BaseException as error:
                self.interrupted = error

    return Monitor()
