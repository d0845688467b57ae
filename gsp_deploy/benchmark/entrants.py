"""Open the networks of one run: each model, and its twin with average pooling."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gsp_deploy.artifact.kind import ENGINE, ONNX, kind_of, require_kind
from gsp_deploy.base.progress import Announce
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.config import GSPConfig, ModelConfig
from gsp_deploy.errors import GspDeployError, UsageError
from gsp_deploy.runtime import EmbeddingSession, open_with


@dataclass(frozen=True)
class Entrant:
    """One model that is open for measuring.

    Attributes:
        name: its name in the report.
        session: the open model.
        config: its configuration; None if gsp-deploy did not export the graph.
        twin: the same network with average pooling; None if there is none.
        no_twin: why there is no twin; None if there is one.
    """

    name: str
    session: EmbeddingSession
    config: ModelConfig | None
    twin: EmbeddingSession | None
    no_twin: str | None

    @property
    def sessions(self) -> list[EmbeddingSession]:
        """The model, and its twin if there is one."""
        return [self.session] if self.twin is None else [self.session, self.twin]


@contextmanager
def open_entrants(
    models: Sequence[Path],
    settings: BenchmarkSettings,
    observe: Announce,
    plugins: Sequence[Path] = (),
) -> Iterator[list[Entrant]]:
    """Open all models with their twins, and close them when the block ends.

    The twin of an engine is built first, from the ONNX file beside it.

    Raises:
        UsageError: there is no model, or one file is given twice.
    """
    names = entrant_names(models)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gsp-twins-")))
        entrants = []
        for index, (name, path) in enumerate(zip(names, models, strict=True)):
            observe(f"opening {name}")
            session = stack.enter_context(open_with(path, settings.session_options(plugins)))
            config = session.info.config
            twin_file = folder / f"{index}{require_kind(session.info.path).suffixes[0]}"
            no_twin = _write_twin(session, config, twin_file, settings)
            twin = None
            if no_twin is None:
                twin = stack.enter_context(open_with(twin_file, settings.session_options()))
            entrants.append(Entrant(name, session, config, twin, no_twin))
        yield entrants


def entrant_names(models: Sequence[Path]) -> list[str]:
    """Return the file names, or the paths as given if two models have the same file name.

    Raises:
        UsageError: there is no model, or one file is given twice.
    """
    if not models:
        raise UsageError("expected at least one model to measure")
    if len({path.resolve() for path in models}) < len(models):
        raise UsageError("expected different models, got the same file twice")
    names = [path.name for path in models]
    return [str(path) if names.count(path.name) > 1 else path.name for path in models]


def _write_twin(
    session: EmbeddingSession, config: ModelConfig | None, target: Path, settings: BenchmarkSettings
) -> str | None:
    """Write the twin's file and return None, or return the reason why there is no twin."""
    if not settings.twin:
        return "not asked for"
    if config is None:
        return "not an export of gsp-deploy"
    if not isinstance(config.head, GSPConfig):
        return f"it has {config.head.in_words}"
    try:
        if kind_of(target) is ENGINE:
            from gsp_deploy.benchmark.engine_twin import write_engine_twin

            write_engine_twin(session.info.path, session.info.engine, target)
        elif kind_of(target) is ONNX:
            from gsp_deploy.export.twin import write_twin

            write_twin(session.info.path, target)
        else:
            from gsp_deploy.benchmark.checkpoint_twin import write_checkpoint_twin
            from gsp_deploy.checkpoint import load_checkpoint

            write_checkpoint_twin(load_checkpoint(session.info.path), target)
    except ModuleNotFoundError as error:  # a deployment install lacks the packages for export
        return f"making one needs the package {error.name}"
    except GspDeployError as error:
        return str(error)
    return None
