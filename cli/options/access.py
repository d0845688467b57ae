"""Options of `serve` about its clients: keys, rates, and HTTPS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_path
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.serving.keys import ApiKeys
    from gsp_deploy.serving.settings import TlsFiles

access_option = panel("Access")


@dataclass(frozen=True)
class AccessOptions:
    """Who may use a server, how often, and over which protocol."""

    api_key_file: Annotated[
        Path | None,
        access_option(
            help="File of API keys, one per line. Without it there is no authentication.",
            callback=existing_path,
        ),
    ] = None
    requests_per_second: Annotated[
        float | None, access_option(help="Limit for one API key or address. (default: no limit)")
    ] = None
    burst: Annotated[
        int, access_option(help="Requests that a key or address may send at once after a pause.")
    ] = 20
    tls_cert: Annotated[
        Path | None,
        access_option(help="Certificate (PEM, with its chain) for HTTPS.", callback=existing_path),
    ] = None
    tls_key: Annotated[
        Path | None,
        access_option(help="Private key (PEM) of that certificate.", callback=existing_path),
    ] = None

    def tls(self) -> TlsFiles | None:
        """Return the files for HTTPS; None if neither is given."""
        from gsp_deploy.errors import UsageError
        from gsp_deploy.serving.settings import TlsFiles

        if self.tls_cert is None and self.tls_key is None:
            return None
        if self.tls_cert is None or self.tls_key is None:
            raise UsageError("--tls-cert and --tls-key belong together; pass both")
        return TlsFiles(self.tls_cert, self.tls_key)

    def keys(self) -> ApiKeys:
        """Return the API keys, and print warnings about their file."""
        from gsp_deploy.serving.keys import ApiKeys, read_api_keys

        if self.api_key_file is None:
            return ApiKeys()
        keys, warnings = read_api_keys(self.api_key_file)
        for warning in warnings:
            show.warning(warning)
        return keys
