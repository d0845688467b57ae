"""Options of `doctor --selftest --full`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file, existing_path

if TYPE_CHECKING:
    from gsp_deploy.proof import ProofSettings

proof_option = panel("Full self-test")


@dataclass(frozen=True)
class ProofOptions:
    """What the full self-test runs, and where its findings go."""

    full: Annotated[
        bool,
        proof_option(
            "--full", help="With --selftest: try everything that needs a GPU; some 20 minutes."
        ),
    ] = False
    rehearse: Annotated[
        bool, proof_option("--rehearse", help="Run it on the CPU, at small sizes.")
    ] = False
    lab: Annotated[
        Path | None,
        proof_option(help="The pooling kernel's lab program.", callback=existing_file),
    ] = None
    tests: Annotated[
        Path | None,
        proof_option(help="The folder of gsp-deploy's tests.", callback=existing_path),
    ] = None
    model: Annotated[
        Path | None,
        proof_option(help="An .onnx export to run on the GPU.", callback=existing_file),
    ] = None
    output: Annotated[
        Path | None,
        proof_option(
            "--output", "-o", help="A .json file for the findings; a .md page goes beside it."
        ),
    ] = None

    def settings(self, selftest: bool) -> ProofSettings | None:
        """Return the settings of the full self-test, or None if it was not asked for.

        Raises:
            UsageError: an option is given without `--selftest --full`.
        """
        from gsp_deploy.errors import UsageError
        from gsp_deploy.proof import ProofSettings

        given = (self.rehearse, self.lab, self.tests, self.model, self.output)
        if self.full and selftest:
            if self.output is not None and self.output.suffix != ".json":
                raise UsageError(f"{self.output}: expected an output ending in .json")
            device = "cpu" if self.rehearse else "cuda"
            return ProofSettings(device, self.lab, self.tests, self.model)
        if self.full or any(given):
            raise UsageError("--full and its options go with --selftest: --selftest --full")
        return None
