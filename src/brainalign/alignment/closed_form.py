"""What fits in closed form have in common."""

from __future__ import annotations

from brainalign.alignment.training import State
from brainalign.errors import InputError


class ClosedForm:
    """A model that is fitted at once, with no epochs to choose among."""

    has_epochs = False

    def load_state(self, state: State) -> None:
        """There are no epochs to go back to.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("a closed-form fit has no epochs")
