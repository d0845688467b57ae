"""How a long piece of work reports how far it is: three kinds of callback, defined here alone."""

from __future__ import annotations

from collections.abc import Callable

# Called with what is about to be done, in words.
Announce = Callable[[str], None]
# Called with how many items were done since the last call.
Advance = Callable[[int], None]
# Called with what is about to be done, how many items are done, and of how many.
Progress = Callable[[str, int, int], None]
