"""Published tables as data: every cell with its value, its source, and how this program would measure it.

A table is one YAML file in `recipes/published/`. What its cells share stands once: the
table's `run`, over it the condition's, over that the row's. `read_table` gives flat cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from brainalign.errors import InputError, unknown_name
from brainalign.plain_yaml import parse_yaml

TABLE_BYTES_MAX = 2**20
RETRIEVAL_METRICS = ("top1", "top5")
Metric = Literal["top1", "top5", "clip_two_way", "r", "p"]
Label = str | int | float


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Part):
    """Where the numbers stand: `table` is a table or figure, `section` or page where it is known."""

    paper: str
    arxiv: str = ""
    url: str = ""
    table: str = ""
    section: str = ""


class Way(_Part):
    """How a cell would be measured; a field that is None is left to the level outside.

    Attributes
    ----------
    recipe, protocol, dataset, modality : str
        `modality` says which other data (virtual, own) may stand in, without a comparison.
    settings : list of str
        `key=value` of the recipe; those of all levels add up.
    backbone : str
        The name that `--backbone NAME=ID` replaces.
    layers : list
        Candidates the paper probed, without the final output.
    layer : {'best', 'final', 'given'}
        `best`: chosen on validation among `layers`; `final`: the model's output; `given`: the recipe's own.
    n_way : int
        Images of the gallery.
    why_not : str
        Why it cannot be measured yet.
    not_comparable : str
        Why our number would answer another question, although it can be measured.
    """

    recipe: str | None = None
    settings: list[str] = []
    protocol: str | None = None
    dataset: str | None = None
    modality: str | None = None
    backbone: str | None = None
    layers: list[int | float | str] | None = None
    layer: Literal["best", "final", "given"] | None = None
    n_way: int | None = Field(None, ge=2)
    why_not: str | None = None
    not_comparable: str | None = None

    @field_validator("settings")
    @classmethod
    def _pairs(cls, value: list[str]) -> list[str]:
        if bad := [one for one in value if not one.partition("=")[1] or not one.partition("=")[0].strip()]:
            raise ValueError(f"'{bad[0]}' is not key=value")
        return value

    def over(self, outer: Way) -> Way:
        """Lay these fields over those of an outer level."""
        fields = {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}
        return outer.model_copy(update=fields | {"settings": [*outer.settings, *self.settings]})


class Value(_Part):
    """A published number, or several of which one is right where the print cannot be read for sure.

    Attributes
    ----------
    value : float or None
    one_of : list of float or None
        Readings; exactly one of `value` and `one_of` is given.
    bound : {'=', '>'}
        `>`: the paper says "above".
    sd : float or None
        The deviation printed beside it.
    """

    value: float | None = None
    one_of: list[float] | None = Field(None, min_length=2)
    bound: Literal["=", ">"] = "="
    sd: float | None = Field(None, gt=0)
    quoted_by: str = ""
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        if (self.value is None) == (self.one_of is None):
            raise ValueError("give value or one_of")
        return self


class Condition(_Part):
    """A column of the table: what all its cells share."""

    label: str
    run: Way = Way()


class Row(_Part):
    """A row: its labels and its numbers by condition and metric; `by_subject` has one a subject of the table."""

    id: str = Field(pattern=r"^[a-z0-9.+-]+$")
    labels: dict[str, Label]
    quoted_by: str = ""
    note: str = ""
    run: Way = Way()
    values: dict[str, dict[Metric, Value]] = {}
    by_subject: dict[str, dict[Metric, list[Value]]] = {}


class Document(_Part):
    """A file of `recipes/published/`."""

    name: str = Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    title: str
    source: Source
    unit: Literal["percent", "none"] = "percent"
    subjects: list[str]
    seeds: int | None = Field(None, ge=1)
    notes: list[str] = []
    run: Way = Way()
    conditions: dict[str, Condition]
    rows: list[Row] = Field(min_length=1)


class Cell(_Part):
    """One published number and how we would measure it.

    Attributes
    ----------
    id : str
        `row/condition/metric`, with the subject behind it where the number is one subject's.
    subject : str or None
        None for the mean over the table's subjects.
    """

    id: str
    row: str
    labels: dict[str, Label]
    condition: str
    condition_label: str
    subject: str | None
    metric: Metric
    published: Value
    run: Way


class PublishedTable(_Part):
    """A table with its cells, row by row."""

    name: str
    title: str
    source: Source
    unit: Literal["percent", "none"]
    subjects: list[str]
    seeds: int | None
    notes: list[str]
    cells: list[Cell]

    @property
    def dataset(self) -> str:
        """The data set most cells are about."""
        names = [cell.run.dataset or "" for cell in self.cells]
        return max(dict.fromkeys(names), key=names.count)

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets of the cells."""
        return tuple(dict.fromkeys(cell.run.dataset for cell in self.cells if cell.run.dataset))

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names that `--backbone NAME=ID` may replace."""
        return tuple(dict.fromkeys(cell.run.backbone for cell in self.cells if cell.run.backbone))


def table_names() -> tuple[str, ...]:
    """Names of the tables that ship with brainalign, such as `shallow-alignment/backbones`."""
    return tuple(sorted(_files()))


def read_table(name: str) -> PublishedTable:
    """A table by its name, or from a YAML file of the same form.

    Raises
    ------
    InputError
        If there is none of that name, or a file does not hold one.

    Examples
    --------
    >>> table = read_table("shallow-alignment/backbones")
    >>> table.cells[0].id, table.cells[0].published.value
    ('rn50/intra-best/top1', 67.7)
    """
    if name.endswith((".yaml", ".yml")):
        return _flat(_document(_read(Path(name)), name), name)
    files = _files()
    if name not in files:
        raise unknown_name("table", name, files, where="reproduce")
    return _flat(_document(files[name], name), name)


def _files() -> dict[str, str]:
    """Text of every shipped table by name: `shallow-alignment-meg.yaml` says `name: shallow-alignment/meg`."""
    folder = resources.files("brainalign.recipes") / "published"
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith(".yaml")]
    return {text.partition("name:")[2].split(maxsplit=1)[0]: text for text in texts}


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > TABLE_BYTES_MAX:
            raise InputError("is larger than 1 MiB", where=path, hint="this is not a table")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check the path") from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=path, hint="this is not a table") from error


def _document(text: str, where: str) -> Document:
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"is not plain YAML ({error})", where=where, hint="see recipes/published") from error
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{key}: {first['msg']}", where=where, hint="see recipes/published") from error


def _flat(document: Document, where: str) -> PublishedTable:
    cells = [cell for row in document.rows for cell in _cells(document, row, where)]
    ids = [cell.id for cell in cells]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise InputError(f"cell '{twice[0]}' stands twice", where=where)
    shared = document.model_dump(include={"name", "title", "unit", "subjects", "seeds", "notes"})
    return PublishedTable(**shared, source=document.source, cells=cells)


def _cells(document: Document, row: Row, where: str) -> Iterator[Cell]:
    for condition in document.conditions:
        for metric, values in row.by_subject.get(condition, {}).items():
            if len(values) != len(document.subjects):
                text = f"row '{row.id}', {condition}, {metric}: {len(values)} values"
                raise InputError(f"{text}, there are {len(document.subjects)} subjects", where=where)
            for subject, value in zip(document.subjects, values, strict=True):
                yield _cell(document, row, condition, metric, value, subject)
        for metric, value in row.values.get(condition, {}).items():
            yield _cell(document, row, condition, metric, value, None)
    if unknown := sorted({*row.values, *row.by_subject} - set(document.conditions)):
        raise unknown_name(f"condition of row '{row.id}'", unknown[0], document.conditions, where=where)


def _cell(document: Document, row: Row, condition: str, metric: Metric, value: Value, subject: str | None) -> Cell:
    column = document.conditions[condition]
    notes = [note for note in (row.note, value.note) if note]
    return Cell(
        id="/".join([row.id, condition, metric, *([f"sub-{subject}"] if subject else [])]),
        row=row.id,
        labels=row.labels,
        condition=condition,
        condition_label=column.label,
        subject=subject,
        metric=metric,
        published=value.model_copy(update={"quoted_by": value.quoted_by or row.quoted_by, "note": " ".join(notes)}),
        run=row.run.over(column.run.over(document.run)),
    )


def settings_of(words: list[str] | tuple[str, ...]) -> Mapping[str, str]:
    """`key=value` words as a mapping, the last of a key."""
    return {key.strip(): value for key, _, value in (word.partition("=") for word in words)}
