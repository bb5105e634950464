"""What `stack.json` says: the members of a stack, their weights and validation scores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainalign.errors import InputError
from brainalign.files import read_json

FILE = "stack.json"
SCHEMA = "brainalign.stack/1"


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )


class StackMember(_Part):
    """One run of a stack.

    Attributes
    ----------
    name : str
        Of its folder; unique in the stack.
    config_hash, recipe, target : str
        Which run it is.
    seed : int
    weight : float
        On its scores.
    share : float
        Weight times the size of its scores, all members summing to 1.
    validation_loss : float
        Mean surprise of the truth by this member alone, one weight fitted to it, queries left out, nats.
    test_top1 : float
        As the member itself reported it.
    """

    name: str
    config_hash: str
    recipe: str
    target: str
    seed: int
    weight: float
    share: float
    validation_loss: float
    test_top1: float


class StackFile(_Part):
    """Members and validation scores of a stack.

    Attributes
    ----------
    prior_sd : float
        Of the prior on scaled weights.
    n_folds : int
        Of the cross-validation.
    fitted_loss, validation_loss : float
        Mean surprise of the truth on validation, nats: with weights fitted on the same queries (optimistic), and on
        others.
    """

    schema_: Literal["brainalign.stack/1"] = Field(default="brainalign.stack/1", alias="schema")
    prior_sd: float
    n_folds: int
    fitted_loss: float
    validation_loss: float
    members: list[StackMember] = Field(min_length=2)


def read_stack(folder: str | Path) -> StackFile:
    """The members of a stack.

    Raises
    ------
    InputError
        If `stack.json` is missing, damaged or of another schema.
    """
    path = Path(folder) / FILE
    try:
        return StackFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=path, hint=f"the schema is {SCHEMA}") from error
