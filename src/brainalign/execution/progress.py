"""How a long step tells how far it is, whoever listens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

Tick = Callable[[int, int], None]
log = logging.getLogger("brainalign")


class Reporter(Protocol):
    """Shows steps of work."""

    def step(self, text: str) -> contextlib.AbstractContextManager[Tick]:
        """Announce a step; the tick takes (done, total)."""


class Silent:
    """A reporter that only logs."""

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Tick]:
        """Log the step's name and show nothing."""
        log.info(text)
        yield lambda done, total: None
