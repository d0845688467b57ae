"""All attempts of bad input. In a command, `|` separates the arguments; see `Attempt`."""

from __future__ import annotations

from .images import ATTEMPTS as IMAGES
from .models import ATTEMPTS as MODELS
from .options import ATTEMPTS as OPTIONS
from .outputs import ATTEMPTS as OUTPUTS
from .sources import ATTEMPTS as SOURCES
from .texts import ATTEMPTS as TEXTS

ATTEMPTS = (*MODELS, *IMAGES, *TEXTS, *OPTIONS, *OUTPUTS, *SOURCES)
