"""Prove on one machine with a GPU what cannot be shown without one: values, speed, GPU features.

`prove` tries everything that the machine has, and returns one document. Parts that the machine
lacks are listed as not run. With `device="cpu"` and small sizes, the whole is a rehearsal.
"""

from __future__ import annotations

from gsp_deploy.proof.document import Finding, Proof
from gsp_deploy.proof.run import ProofSettings, prove

__all__ = ["Finding", "Proof", "ProofSettings", "prove"]
