"""Write a run's log: a CSV that a resumed run continues, and TensorBoard if it is installed."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from gsp_deploy.base.files import write_text
from gsp_deploy.training.records import StepRecord

COLUMNS = (
    "step",
    "epoch",
    "learning_rate",
    "loss",
    "metric_loss",
    "zsr_loss",
    "gradient_norm",
    "recall_at_1",
    "map_at_r",
)


class CsvLog:
    """Appends one line per record; opening it first removes the lines after `step`."""

    def __init__(self, path: Path, step: int) -> None:
        write_text(path, _head_of(path, step))
        self._stream = path.open("a", encoding="utf-8", newline="")

    def write(self, record: StepRecord, metrics: dict[str, float]) -> None:
        """Add a line; the validation's columns stay empty if there was none at this step."""
        values = {**vars(record), **metrics}
        self._stream.write(_line([values.get(column) for column in COLUMNS]))
        self._stream.flush()

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class TensorBoardLog:
    """Writes scalars for TensorBoard; `purge_step` hides a killed run's steps after its state."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # an optional package

        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, record: StepRecord, metrics: dict[str, float]) -> None:
        """Add the figures of a step."""
        for name in ("loss", "metric_loss", "zsr_loss", "learning_rate", "gradient_norm"):
            if (value := getattr(record, name)) is not None:
                self._writer.add_scalar(f"train/{name}", value, record.step)
        for name, value in metrics.items():
            self._writer.add_scalar(f"validation/{name}", value, record.step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def _head_of(path: Path, step: int) -> str:
    """Return the log's header and its complete lines up to `step`."""
    header = _line(list(COLUMNS))
    if not path.exists():
        return header
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[1:]
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    return "".join([header, *kept])


def _step_of(line: str) -> float:
    first = line.partition(",")[0]
    return int(first) if first.isdigit() else float("inf")


def _line(values: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
