"""Types of the callbacks through which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

# Called with a description of the next step.
Announce = Callable[[str], None]
# Called with the number of items completed since the last call.
Advance = Callable[[int], None]
# Called with a description of the next step, the number of items completed, and their total.
Progress = Callable[[str, int, int], None]
