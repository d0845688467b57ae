"""`/openapi.json` against what the server does: requests made from it, and nothing undocumented."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from gsp_deploy.serving import EmbeddingService, ServingSettings
from gsp_deploy.serving.documentation import openapi
from gsp_deploy.serving.keys import ApiKeys

from .servers import TellingSession

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402
from schemathesis.python.asgi import get_client  # noqa: E402

# A schema cannot say that a tensor has as many numbers as its shape, nor which bytes are an image:
# a request that fits the schema may still get 400. Every other check is made.
BEYOND_A_SCHEMA = ["positive_data_acceptance"]


def service(keys: ApiKeys | None = None) -> EmbeddingService:
    return EmbeddingService(
        TellingSession(), "m", ServingSettings(window_ms=0.0, decoders=1, max_body_bytes=4000), keys
    )


load_all_checks()
EXCLUDED = CHECKS.get_by_names(BEYOND_A_SCHEMA)
# `from_asgi` would start a server here, while pytest still looks for tests.
schema = schemathesis.openapi.from_dict(openapi("m", TellingSession().info))
schema.app = service().app


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_reply_is_documented(case) -> None:
    case.call_and_validate(excluded_checks=EXCLUDED)


def test_a_server_with_keys_says_how_they_are_sent() -> None:
    locked = service(ApiKeys((b"x" * 32,)))
    with get_client(locked.app) as client:
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/v2/health/ready").status_code == 200
