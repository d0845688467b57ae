"""Stamp a collection with the model that filled it, as a gallery's manifest does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from gsp_deploy import __version__
from gsp_deploy.base.schema import from_fields
from gsp_deploy.errors import ModelFileError, reason_of
from gsp_deploy.retrieval.identity import ModelIdentity

FORMAT_VERSION = 1
METRIC = "cosine"


@dataclass(frozen=True)
class Stamp:
    """What a collection records about its embeddings.

    Attributes:
        identity: the model, with its precision and its pre-processing.
        runtime: what ran the model when the collection was made; None if it is unknown.
        metric: `cosine`.
        made_by: this tool and its version.
    """

    identity: ModelIdentity
    runtime: str | None
    metric: str = METRIC
    made_by: str = f"gsp-deploy {__version__}"

    def to_text(self) -> str:
        """Return the stamp as one line of JSON."""
        return json.dumps({"format": FORMAT_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str, source: object) -> Stamp:
        """Read a stamp; `source` names its collection in an error.

        Raises:
            ModelFileError: the text is not a stamp, or one of another format or metric.
        """
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.pop("format", None) != FORMAT_VERSION:
                raise ValueError(f"it is not of format {FORMAT_VERSION}")
            stamp = from_fields(cls, data)
            if stamp.metric != METRIC:
                raise ValueError(f"its metric is not {METRIC}")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ModelFileError(
                f"{source} has no stamp of gsp-deploy that can be read ({reason_of(error)}); "
                "name a new collection"
            ) from error
        return stamp
