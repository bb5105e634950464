"""YAML that others wrote: plain values, read so that a small file cannot fill the memory."""

from __future__ import annotations

from typing import Any

import yaml

VALUES_MAX = 100_000
_BITS_MAX = 1023  # of a whole number; more does not fit a float, and very long ones cannot be printed


def parse_yaml(text: str) -> Any:
    """Read one YAML document of plain values.

    Aliases may repeat a part of it, up to 100,000 values in all: some lines of aliases to aliases stand for more than
    any memory holds.

    Raises
    ------
    yaml.YAMLError
        If the text is not YAML, or holds an object, aliases that stand for too much or for themselves, a date that does
        not exist, a number too long for a float, or lists too deep to follow.

    Examples
    --------
    >>> parse_yaml("sfreq: 250")
    {'sfreq': 250}
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError as error:
        raise yaml.YAMLError("lists or mappings are nested too deep") from error


class _PlainLoader(yaml.SafeLoader):
    """A safe loader that bounds aliases, and words as YAML errors what values themselves raise."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._counts: dict[yaml.Node, int | None] = {}  # None while a node is being counted
        self._aliased = False

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and self._aliased:
            self._count(node)
        return node

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._aliased = self._aliased or bool(self.check_event(yaml.AliasEvent))
        return super().compose_node(parent, index)

    def _count(self, node: yaml.Node) -> int:
        """Values that a node stands for, aliases followed."""
        if node in self._counts:
            known = self._counts[node]
            if known is None:
                raise _problem("an alias stands for itself", node)
            return known
        self._counts[node] = None
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in inner for part in pair]
        count = 1 + sum(map(self._count, inner))
        if count > VALUES_MAX:
            raise _problem(f"aliases stand for more than {VALUES_MAX} values", node)
        self._counts[node] = count
        return count

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            raise _problem(str(error), node) from error
        if isinstance(value, int) and value.bit_length() > _BITS_MAX:
            raise _problem("a number has too many digits", node)
        return value


def _problem(text: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
