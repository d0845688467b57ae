"""Embed any number of images into a data set, on one machine or many.

`EmbeddingRun` decides what is missing, `Worker` embeds slices of the sources, and an executor
(a place's `run`; see `place`) hands the slices to workers.
"""

from gsp_deploy.retrieval.job.lock import sole_run
from gsp_deploy.retrieval.job.pool import default_workers, run_here
from gsp_deploy.retrieval.job.run import EmbeddingRun, Executor, Shard
from gsp_deploy.retrieval.job.worker import Job, Task, Worker

__all__ = [
    "EmbeddingRun",
    "Executor",
    "Job",
    "Shard",
    "Task",
    "Worker",
    "default_workers",
    "run_here",
    "sole_run",
]
