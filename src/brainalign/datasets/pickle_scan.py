"""Checking a pickle's opcodes without executing them.

A pickle can kill the interpreter before any Python code is asked: a huge memo index allocates a huge table, hashing a
tuple nested a million deep overflows the C stack, a declared length allocates memory that the file never fills.
"""

from __future__ import annotations

import os
import pickletools
from typing import IO

from brainalign.errors import InputError

ITEMS_MAX = 10_000_000
DEPTH_MAX = 32
REMEDY = "do not open this file any other way; get it anew from its publisher"
_PLAIN = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 BINSTRING SHORT_BINSTRING EMPTY_LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE
    GLOBAL STACK_GLOBAL REDUCE BUILD INST OBJ NEWOBJ NEWOBJ_EX"""  # the last four need a class: find_class refuses
PLAIN_OPCODES = frozenset(_PLAIN.split())
_OPCODES = {ord(op.code): op for op in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


def scan(file: IO[bytes], path: object, end: int, allowed: frozenset[str] = PLAIN_OPCODES) -> None:
    """Check that the pickle that starts here is harmless to read and stops at byte `end`; leave the file where it was.

    Parameters
    ----------
    file : binary file
        Open and seekable.
    path : object
        The file's name for messages.
    end : int
        Position of the byte after the pickle.
    allowed : frozenset of str
        Names of opcodes, as in `pickletools`.

    Raises
    ------
    InputError
        If an opcode is not allowed, a length or index does not fit the file, tuples nest deeper than 32, there are more
        than 10 million opcodes, or the pickle does not end where the file does.
    """
    start = file.tell()
    nesting = _Nesting()
    try:
        for count in range(ITEMS_MAX + 1):
            op = _OPCODES[file.read(1)[0]]
            if op.name not in allowed:
                raise InputError(f"uses the pickle opcode {op.name}{_purpose(op.name)}", where=path, hint=REMEDY)
            argument = _skip_argument(file, op, end - file.tell())
            if (op.name.endswith("PUT") and argument > count) or nesting.step(op, argument) > DEPTH_MAX:
                raise InputError(f"asks for more memory than it fills (opcode {op.name})", where=path, hint=REMEDY)
            if op.name == "STOP":
                break
        else:
            raise InputError(f"holds more than {ITEMS_MAX} items", where=path, hint="this is not an array file")
    except (IndexError, KeyError, EOFError) as error:
        raise InputError("is truncated or not a pickle", where=path, hint="get the file anew") from error
    if file.tell() != end:
        raise InputError(f"holds {end - file.tell()} bytes after its pickle", where=path, hint="get the file anew")
    file.seek(start)


def _purpose(opcode: str) -> str:
    purposes = {"PERSID": "persistent id", "BUFFER": "out-of-band buffer", "EXT": "extension registry"}
    return next((f" ({purpose})" for part, purpose in purposes.items() if part in opcode), "")


def _skip_argument(file: IO[bytes], op: pickletools.OpcodeInfo, left: int) -> int:
    """Step over an opcode's argument; give its value if it is a number of fixed width, else 0."""
    if op.arg is None:
        return 0
    if op.arg.n == pickletools.UP_TO_NEWLINE:  # of the allowed ones: GLOBAL and INST, two lines each
        if not all(file.readline(512).endswith(b"\n") for _ in range(2)):
            raise EOFError
        return 0
    width = _LENGTH_BYTES.get(op.arg.n, op.arg.n)
    number = int.from_bytes(_read_exactly(file, width), "little")
    if op.name == "FRAME" or op.arg.n < 0:
        if number > left - width:
            raise EOFError
        file.seek(0 if op.name == "FRAME" else number, os.SEEK_CUR)
    return number


def _read_exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


class _Nesting:
    """How deep tuples stand inside tuples: hashing a deep one overflows the C stack, which nobody can catch."""

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.memo: dict[int, int] = {}

    def step(self, op: pickletools.OpcodeInfo, argument: int) -> int:
        """Apply one opcode; give the nesting of what it leaves on the stack (-1 is a mark, 0 anything but a tuple)."""
        if op.name.endswith("PUT") or op.name == "MEMOIZE":
            self.memo[len(self.memo) if op.name == "MEMOIZE" else argument] = self.stack[-1]
            return 0
        if op.name.endswith("GET"):
            self.stack.append(self.memo[argument])
            return 0
        inside = self._pop(op)
        depth = 1 + max(inside, default=0) if "TUPLE" in op.name else -int(op.name == "MARK")
        self.stack.extend([depth] * len(op.stack_after))
        return depth

    def _pop(self, op: pickletools.OpcodeInfo) -> list[int]:
        taken: list[int] = []
        below = len(op.stack_before)
        if pickletools.markobject in op.stack_before:
            below = op.stack_before.index(pickletools.markobject)
            while (depth := self.stack.pop()) >= 0:
                taken.append(depth)
        return taken + [self.stack.pop() for _ in range(below)]
