"""How far a process is with the unit that it is at. Whoever started it may listen; nobody has to.

Of the process, not of a scan: Beam's runner copies what it is given, so nothing that listens can be handed down to it.
"""

from collections.abc import Callable

OnTokens = Callable[[int], None]
"""Called with the number of tokens that were scored since the last call."""

_listener: OnTokens | None = None


def listen(listener: OnTokens) -> None:
    """Have a function called from now on, in the thread that scores; in place of the one before."""
    global _listener
    _listener = listener


def tell(tokens: int) -> None:
    """So many more tokens of the unit are scored."""
    if _listener is not None:
        _listener(tokens)
