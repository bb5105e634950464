"""Round trips are compared with what numpy, pickle and torch wrote; hostile files must be refused without effect."""

from __future__ import annotations

import builtins
import collections
import contextlib
import functools
import io
import os
import pickle
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brainalign.datasets.safe_pickle import load_untrusted_npy, load_untrusted_torch
from brainalign.errors import InputError

PROTOCOLS = [2, 3, 4, 5]


def eeg_dictionary() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((3, 2, 4, 5))
    return {
        "preprocessed_eeg_data": eeg,
        "ch_names": ["O1", "Oz", "O2", "Pz"],
        "times": np.linspace(-0.2, 0.8, 5),
        "big_endian": eeg.astype(">f4"),
        "fortran": np.asfortranarray(eeg[0, 0]),
        "permuted": eeg.transpose(1, 3, 0, 2),
        "half": eeg.astype("f2"),
        "mask": eeg[0, 0] > 0,
        "labels": np.arange(6, dtype="i2").reshape(2, 3),
        "spectrum": eeg[0, 0].astype("c8"),
        "names": np.array(["aardvark_01b", "zébra"]),
        "raw_names": np.array([b"x", b"long"]),
        "empty": np.empty((0, 4)),
        "sfreq": np.float64(250.0),
        "flag": np.bool_(True),
        "concept": np.str_("Katze"),
        "nested": {"list": [1, 2.5, None, True, -(10**30)], "tuple": (1, ("a", b"bytes", b"")), 3: "three"},
        "ordered": collections.OrderedDict(b=1, a=2),
    }


def assert_same(got: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        assert type(got) is np.ndarray
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, dict):
        assert type(got) is dict
        assert list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    else:
        assert type(got) is type(expected)
        assert got == expected


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def as_object_npy(pickled: bytes, shape: str = "()") -> bytes:
    """A `.npy` of version 1.0 whose header declares objects, around a pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def as_numpy_1(pickled: bytes) -> bytes:
    """The same pickle with the module names of numpy < 2 (one frame at most)."""
    if pickled[1] < 4:
        return pickled.replace(b"numpy._core.", b"numpy.core.")
    shorter = pickled
    for module in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = module.replace(b"_core", b"core")
        shorter = shorter.replace(b"\x8c" + bytes([len(module)]) + module, b"\x8c" + bytes([len(old)]) + old)
    frame = int.from_bytes(pickled[3:11], "little") - (len(pickled) - len(shorter))
    return shorter[:3] + frame.to_bytes(8, "little") + shorter[11:]


class TestRoundTrip:
    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_bare_pickle(self, tmp_path: Path, protocol: int) -> None:
        data = eeg_dictionary()
        path = write(tmp_path / "eeg.npy", pickle.dumps(data, protocol=protocol))
        assert_same(load_untrusted_npy(path), data)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_module_names_of_numpy_1(self, tmp_path: Path, protocol: int) -> None:
        data = {"eeg": np.arange(6.0).reshape(2, 3), "sfreq": np.float32(100)}
        pickled = as_numpy_1(pickle.dumps(data, protocol=protocol))
        assert b"numpy.core." in pickled
        assert b"_core" not in pickled
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # numpy's, of its old names
            assert_same(pickle.loads(pickled), data)
        assert_same(load_untrusted_npy(write(tmp_path / "eeg.pkl", pickled)), data)

    @pytest.mark.parametrize("wrap", [lambda d: d, lambda d: np.array([d], dtype=object)], ids=["0-d", "1-d"])
    def test_npy_of_one_dictionary(self, tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
        data = eeg_dictionary()
        np.save(tmp_path / "eeg.npy", wrap(data), allow_pickle=True)
        assert_same(load_untrusted_npy(tmp_path / "eeg.npy"), data)

    def test_python_2_bytes(self, tmp_path: Path) -> None:
        values = np.arange(3, dtype="<f8")  # Python 2 wrote array data with the opcode BINSTRING, which is str here
        modern = pickle.dumps({"x": values}, protocol=3)
        raw = values.tobytes()
        old = modern.replace(b"C" + bytes([len(raw)]) + raw, b"T" + struct.pack("<i", len(raw)) + raw)
        old = b"\x80\x02" + old[2:].replace(b"C\x01b", b"U\x01b")
        assert_same(pickle.loads(old, encoding="latin1"), {"x": values})
        assert_same(load_untrusted_npy(write(tmp_path / "old.pkl", old)), {"x": values})

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_object_arrays_become_nested_lists(self, tmp_path: Path, protocol: int) -> None:
        names = np.array([["a", "b"], ["c", None], [1, ["x", ("y",)]]], dtype=object)
        data = {"names": names, "none": np.empty((0, 2), dtype=object), "one": np.array("s", dtype=object)}
        path = write(tmp_path / "names.pkl", pickle.dumps(data, protocol=protocol))
        assert load_untrusted_npy(path) == {"names": names.tolist(), "none": [], "one": "s"}

    @pytest.mark.parametrize("dtype", ["f4", ">i2", "U5", "?", [("onset", "f8"), ("label", "U3")]])
    @pytest.mark.parametrize("mmap_mode", [None, "r"])
    def test_plain_npy(self, tmp_path: Path, dtype: Any, mmap_mode: Any) -> None:
        array = np.zeros((3, 4), dtype=dtype)
        np.save(tmp_path / "plain.npy", array)
        got = load_untrusted_npy(tmp_path / "plain.npy", mmap_mode=mmap_mode)
        assert isinstance(got, np.memmap) == (mmap_mode == "r")
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)

    def test_empty_plain_npy_can_be_mapped(self, tmp_path: Path) -> None:
        np.save(tmp_path / "empty.npy", np.empty((0, 5), dtype="f4"))
        got = load_untrusted_npy(tmp_path / "empty.npy", mmap_mode="r")
        assert isinstance(got, np.ndarray)
        assert got.shape == (0, 5)


class Runs:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Custom:
    def __init__(self) -> None:
        self.x = 1


SENTINEL = "this-code-has-run"
TOUCH = f"open({SENTINEL!r}, 'w').close()"
SAYS_SYSTEM = os.system.__module__ + ".system"  # posix.system here, nt.system elsewhere


def metadata_dtype() -> np.ndarray[Any, Any]:
    return np.zeros(2, dtype=np.dtype("f4", metadata={"run": Runs(os.system, f"touch {SENTINEL}")}))


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "os.system": (lambda: Runs(os.system, f"touch {SENTINEL}"), SAYS_SYSTEM),
    "eval": (lambda: Runs(eval, TOUCH), "eval"),
    "exec": (lambda: Runs(exec, TOUCH), "exec"),
    "subprocess": (
        lambda: Runs(subprocess.check_call, ["touch", SENTINEL]),
        "check_call",
    ),  # protocol 2 writes the module as "commands"
    "open": (lambda: Runs(builtins.open, SENTINEL, "w"), "open"),
    "getattr": (lambda: Runs(getattr, "x", "upper"), "getattr"),
    "numpy.load": (lambda: Runs(np.load, "other.npy", None, True), "numpy.load"),
    "ufunc": (lambda: Runs(np.frompyfunc, len, 1, 1), "frompyfunc"),
    "memmap": (lambda: Runs(np.memmap, SENTINEL, "u1", "w+", 0, (1,)), "memmap"),
    "partial": (lambda: functools.partial(os.system, f"touch {SENTINEL}"), "functools.partial"),
    "instance": (Custom, "Custom"),
    "recarray": (lambda: np.zeros(1, dtype="f4").view(np.recarray), "recarray"),
    "masked": (lambda: np.ma.masked_array([1.0], [True]), "numpy.ma"),
    "nested": (lambda: {"a": [{"b": (Runs(os.system, f"touch {SENTINEL}"),)}]}, SAYS_SYSTEM),
    "metadata": (lambda: {"x": metadata_dtype()}, SAYS_SYSTEM),
    "key": (lambda: {Runs(eval, f"({TOUCH}, 'key')[1]"): 1}, "eval"),
}


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / SENTINEL


def refused(path: Path, load: Callable[..., Any] = load_untrusted_npy) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


class TestHostilePickles:
    @pytest.mark.parametrize("name", ["os.system", "eval", "exec", "subprocess", "open", "nested", "key", "memmap"])
    def test_these_do_run_when_trusted(self, sentinel: Path, name: str) -> None:
        """Without this, the tests below could pass on payloads that never worked."""
        result = pickle.loads(pickle.dumps({"payload": HOSTILE[name][0]()}))
        if name == "open":
            result["payload"].close()
        assert sentinel.exists()

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("bare", [True, False], ids=["bare", "npy"])
    def test_refused_by_name_and_not_run(self, sentinel: Path, name: str, protocol: int, bare: bool) -> None:
        make, says = HOSTILE[name]
        payload: Any = {"payload": make()}
        if not bare:
            payload = np.array(payload, dtype=object)
        pickled = pickle.dumps(payload, protocol=protocol)
        path = write(sentinel.parent / "evil.npy", pickled if bare else as_object_npy(pickled))
        message = refused(path)
        assert "would run code: " in message
        assert says in message
        assert not sentinel.exists()

    @pytest.mark.parametrize("top", [True, False], ids=["top", "metadata of a scalar"])
    def test_hostile_top_level(self, sentinel: Path, top: bool) -> None:
        value = Runs(eval, TOUCH) if top else metadata_dtype()[0]
        message = refused(write(sentinel.parent / "evil.pkl", pickle.dumps(value, protocol=4)))
        assert "would run code" in message if top else "expected a dictionary" in message
        assert not sentinel.exists()

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"(X\x05\x00\x00\x00touchios\nsystem\n.", "os.system"),  # INST
            (b"(cos\nsystem\nX\x05\x00\x00\x00toucho.", "os.system"),  # OBJ
            (b"cos\nsystem\n)\x81.", "os.system"),  # NEWOBJ
            (b"\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
            (b"\x8c\x05numpy\x8c\x10f2py.diagnose.os\x93.", "numpy.f2py.diagnose.os"),
            (b"cnumpy.f2py.diagnose\nrun_command\n(X\x05\x00\x00\x00touchtR.", "numpy.f2py.diagnose.run_command"),
            (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "_codecs.encode"),
            (b"c_codecs\ndecode\n.", "_codecs.decode"),
            (b"cos\x1b[2J\nsystem\n.", r"os\x1b[2J.system"),  # no terminal codes in messages
            (b"\x82\x01.", "EXT1 (extension registry)"),
            (b"X\x01\x00\x00\x00aQ.", "BINPERSID (persistent id)"),
            (b"Pabc\n.", "PERSID (persistent id)"),
            (b"\x97.", "NEXT_BUFFER (out-of-band buffer)"),
            (b"\x8f.", "EMPTY_SET"),
            (b"I1\n.", "INT"),
        ],
    )
    def test_raw_opcodes(self, tmp_path: Path, body: bytes, says: str) -> None:
        assert says in refused(write(tmp_path / "raw.pkl", b"\x80\x04" + body))

    def test_out_of_band_buffers(self, tmp_path: Path) -> None:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps({"x": np.arange(4.0)}, protocol=5, buffer_callback=buffers.append)
        assert buffers
        assert "out-of-band" in refused(write(tmp_path / "oob.pkl", data))

    @pytest.mark.parametrize(
        "body",
        [
            b"}(" + b")" + b"\x85" * 1_000_000 + b"Nu.",  # hashing the key overflows the C stack
            b"}(" + b")q\x00" + b"h\x00\x85q\x00" * 200 + b"h\x00Nu.",  # the same through the memo
            b"Nr\x00\x00\x00\x40.",  # a memo table of 2^31 entries
            b"\x8e" + (2**40).to_bytes(8, "little") + b"a.",  # declares 1 TiB of bytes
            b"\x95" + (2**40).to_bytes(8, "little") + b"N.",  # declares a frame of 1 TiB
            b"T\xff\xff\xff\xffa.",  # a negative length
        ],
        ids=["tuples", "tuples in memo", "memo", "bytes", "frame", "negative"],
    )
    def test_bombs_in_opcodes(self, tmp_path: Path, body: bytes) -> None:
        message = refused(write(tmp_path / "bomb.pkl", b"\x80\x04" + body))
        assert "more memory" in message or "truncated" in message

    def test_shared_lists_that_unfold(self, tmp_path: Path) -> None:
        laughs: Any = ["ha"] * 10
        for _ in range(12):
            laughs = [laughs] * 10  # 10^13 items from a file of some hundred bytes
        assert "repeats more" in refused(write(tmp_path / "laughs.pkl", pickle.dumps({"x": laughs})))

    def test_cycle(self, tmp_path: Path) -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        assert "nests" in refused(write(tmp_path / "cycle.pkl", pickle.dumps({"x": cycle})))
        own = np.empty(1, dtype=object)
        own[0] = [own]
        assert "ndarray inside an object array" in refused(write(tmp_path / "own.pkl", pickle.dumps({"x": own})))

    @pytest.mark.parametrize(
        ("opcode", "call"),
        [
            (b"X", b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"),
            (b"B", b"cnumpy.core.multiarray\nscalar\nh\x01h\x00\x86R"),
            (b"X", b"cnumpy.core.numeric\n_frombuffer\n(h\x00h\x01)X\x01\x00\x00\x00CtR"),
        ],
        ids=["encode", "scalar", "array of Python 2"],
    )
    def test_copies_of_one_string_are_counted(self, tmp_path: Path, opcode: bytes, call: bytes) -> None:
        text = opcode + struct.pack("<I", 20_000) + b"a" * 20_000 + b"q\x00"
        dtype = b"cnumpy\ndtype\nX\x06\x00\x00\x00S20000\x85Rq\x01"
        for copies, says in ((1, "holds a dtype"), (100, "more memory")):  # with one copy, only the bare dtype is wrong
            items = b"](" + text + dtype + call * copies + b"e"
            path = write(tmp_path / "copies.pkl", b"\x80\x02}X\x01\x00\x00\x00x" + items + b"s.")
            assert says in refused(path)

    def test_state_for_a_function_changes_nothing(self, tmp_path: Path) -> None:
        body = b"cnumpy\ndtype\nN}X\x05\x00\x00\x00_makecnumpy\nndarray\ns\x86b."
        assert "state for a function" in refused(write(tmp_path / "state.pkl", b"\x80\x02" + body))
        good = {"x": np.arange(3.0)}
        assert_same(load_untrusted_npy(write(tmp_path / "good.pkl", pickle.dumps(good))), good)

    def test_ordered_dict_takes_no_argument(self, tmp_path: Path) -> None:
        refused(write(tmp_path / "copy.pkl", b"\x80\x02ccollections\nOrderedDict\n}\x85R."))


def array_pickle(shape: bytes, code: bytes = b"f8", data: bytes = b"\0" * 8, order: bytes = b"<") -> bytes:
    """A pickled dictionary of one array with a state of our choosing."""
    text = b"X" + struct.pack("<I", len(code)) + code
    dtype = (
        b"cnumpy\ndtype\n" + text + b"\x89\x88\x87R(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    state = b"(K\x01" + shape + dtype + b"\x89B" + struct.pack("<I", len(data)) + data + b"tb"
    return b"\x80\x03}U\x01x" + start + state + b"s."


class TestDamagedAndForeignFiles:
    def test_array_pickle_helper(self, tmp_path: Path) -> None:
        got = load_untrusted_npy(write(tmp_path / "a.pkl", array_pickle(b"K\x01\x85")))
        assert_same(got, {"x": np.zeros(1)})

    @pytest.mark.parametrize(
        "pickled",
        [
            array_pickle(b"\x8a\x06" + (10**13).to_bytes(6, "little") + b"\x85"),
            array_pickle(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"),
            array_pickle(b"(" + b"K\x01" * 100 + b"t"),
            array_pickle(b"K\x02\x85"),
            array_pickle(b"X\x01\x00\x00\x00a\x85"),
            array_pickle(b"K\x01\x85", code=b"V8"),
            array_pickle(b"K\x01\x85", code=b"f8,O"),
            array_pickle(b"K\x01\x85", code=b"O8", order=b"|"),
            array_pickle(b"K\x01\x85", code=b"M8"),
            array_pickle(b"K\x01\x85", order=b"?"),
        ],
        ids=[
            "huge",
            "negative",
            "100 axes",
            "too little data",
            "text",
            "void",
            "object field",
            "object",
            "date",
            "order",
        ],
    )
    def test_states_that_do_not_fit(self, tmp_path: Path, pickled: bytes) -> None:
        assert "more than plain data" in refused(write(tmp_path / "a.pkl", pickled))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("dtype", [[("a", "f4"), ("b", "O")], [("a", "f4")]])
    def test_structured_dtype_in_pickle(self, tmp_path: Path, protocol: int, dtype: Any) -> None:
        data = {"x": np.zeros(2, dtype=dtype)}
        assert "dtype" in refused(write(tmp_path / "a.pkl", pickle.dumps(data, protocol=protocol)))

    def test_object_field_in_npy(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros(1, dtype=[("a", "f4"), ("b", "O")]), allow_pickle=True)
        assert "expected one pickled dictionary" in refused(tmp_path / "a.npy")

    def test_object_array_of_dictionaries(self, tmp_path: Path) -> None:
        data = {"x": np.array([{"a": 1}, {"b": 2}], dtype=object)}
        assert "dict inside an object array" in refused(write(tmp_path / "a.pkl", pickle.dumps(data)))

    @pytest.mark.parametrize("value", [[1, 2], "text", np.arange(3.0), None, (1,)])
    def test_not_a_dictionary(self, tmp_path: Path, value: Any) -> None:
        assert "expected a dictionary" in refused(write(tmp_path / "a.pkl", pickle.dumps(value)))

    def test_npy_of_several_objects(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
        assert "shape (2,)" in refused(tmp_path / "a.npy")

    @pytest.mark.parametrize("value", [{(1, 2): 3}, {"x": np.dtype("f4")}, {b"x": 1}, {"x": bytearray(b"a")}])
    def test_values_that_are_not_plain(self, tmp_path: Path, value: Any) -> None:
        assert "expected arrays and plain values" in refused(write(tmp_path / "a.pkl", pickle.dumps(value, protocol=5)))

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_truncated_anywhere(self, tmp_path: Path, protocol: int) -> None:
        whole = pickle.dumps({"x": np.arange(8.0), "names": ["a", "b"]}, protocol=protocol)
        for length in range(2, len(whole), 3):
            assert "get" in refused(write(tmp_path / "cut.pkl", whole[:length]))

    def test_every_flipped_byte_is_read_or_refused(self, tmp_path: Path) -> None:
        whole = pickle.dumps({"x": np.arange(4.0), "names": ["a", "b"]}, protocol=4)
        for position in range(len(whole)):
            for flip in (0x01, 0x80, 0xFF):
                changed = bytearray(whole)
                changed[position] ^= flip
                with contextlib.suppress(InputError):
                    assert isinstance(load_untrusted_npy(write(tmp_path / "flip.pkl", bytes(changed))), dict)

    def test_trailing_bytes(self, tmp_path: Path) -> None:
        assert "3 bytes after" in refused(write(tmp_path / "a.pkl", pickle.dumps({}) + b"abc"))

    def test_truncated_npy(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros((10, 10)))
        data = (tmp_path / "a.npy").read_bytes()
        assert "declares (10, 10) of float64 (800 bytes) but holds 700" in refused(
            write(tmp_path / "b.npy", data[:-100])
        )
        assert "header" in refused(write(tmp_path / "c.npy", data[:40]))

    @pytest.mark.parametrize(
        ("shape", "says"),
        [
            ("(1000000000000,)", "declares"),
            ("(10000000, 1000000)", "declares"),
            ("(-1,)", "declares"),
            ("(9,)", "72 bytes"),
            ("(10**12,)", "header"),
            ("(1.5,)", "header"),
        ],
    )
    @pytest.mark.parametrize("mmap_mode", [None, "r"])
    def test_declared_shape_is_checked_before_memory(
        self, tmp_path: Path, shape: str, says: str, mmap_mode: Any
    ) -> None:
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        path = write(tmp_path / "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
        assert says in refused(path, lambda p: load_untrusted_npy(p, mmap_mode=mmap_mode))

    def test_header_that_lies_about_the_pickle(self, tmp_path: Path) -> None:
        array = pickle.dumps(np.array([{"a": 1}, {"b": 1}], dtype=object))
        assert "header" in refused(write(tmp_path / "a.npy", as_object_npy(array)))
        assert "header" in refused(write(tmp_path / "b.npy", as_object_npy(pickle.dumps({"a": 1}))))

    @pytest.mark.parametrize(
        "data", [b"", b"PK\x03\x04zip", b"(dp0\nS'a'\n.", b"\x89HDF\r\n", b"\x80\x00.", b"\x80\x09."]
    )
    def test_other_kinds_of_file(self, tmp_path: Path, data: bytes) -> None:
        assert "expected .npy or a pickle" in refused(write(tmp_path / "a.npy", data))

    def test_size_limit_and_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pkl", pickle.dumps({"x": 1}))
        assert "at most 5" in refused(path, lambda p: load_untrusted_npy(p, max_bytes=5))
        assert "no such file" in refused(tmp_path / "none.npy")
        assert "no such file" in refused(tmp_path)


class TestTorch:
    def test_round_trip(self, tmp_path: Path) -> None:
        data = eeg_dictionary()
        data |= {"eeg": torch.randn(3, 4, 5).half(), "img": ["a.jpg", "b.jpg"], "label": torch.arange(3)}
        data["view"] = torch.randn(4, 6)[:, ::2].t()
        data["grad"] = torch.randn(2, requires_grad=True)
        torch.save(data, tmp_path / "train.pt")
        got = load_untrusted_torch(tmp_path / "train.pt")
        assert isinstance(got, dict)
        assert list(got) == list(data)
        for key, value in data.items():
            if isinstance(value, torch.Tensor):
                assert got[key].dtype == value.dtype
                assert not got[key].requires_grad
                assert torch.equal(got[key], value)
            elif key != "ordered":
                assert_same(got[key], value)
        assert got["ordered"] == {"b": 1, "a": 2}
        assert not any("brainalign" in str(name) for name in torch.serialization.get_safe_globals())

    def test_one_tensor(self, tmp_path: Path) -> None:
        torch.save(torch.arange(6).reshape(2, 3), tmp_path / "x.pt")
        got = load_untrusted_torch(tmp_path / "x.pt")
        assert isinstance(got, torch.Tensor)
        assert got.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_numpy_1_names(self, tmp_path: Path) -> None:
        torch.save({"x": np.arange(3.0)}, tmp_path / "new.pt")
        with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
            for entry in new.infolist():
                old.writestr(entry.filename, new.read(entry).replace(b"numpy._core", b"numpy.core"))
        got = load_untrusted_torch(tmp_path / "old.pt")
        assert_same(got, {"x": np.arange(3.0)})

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, sentinel: Path, name: str) -> None:
        make, says = HOSTILE[name]
        path = sentinel.parent / "evil.pt"
        torch.save({"x": make()}, path)
        message = refused(path, load_untrusted_torch)
        assert "would run code: " in message
        assert says in message
        assert not sentinel.exists()

    def test_deep_tuples(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "deep.pt", "w") as archive:
            archive.writestr("deep/data.pkl", b"\x80\x02}()" + b"\x85" * 1_000_000 + b"Nu.")
        assert "more memory" in refused(tmp_path / "deep.pt", load_untrusted_torch)

    def test_compressed(self, tmp_path: Path) -> None:
        torch.save({"x": torch.zeros(10)}, tmp_path / "a.pt")
        with (
            zipfile.ZipFile(tmp_path / "a.pt") as old,
            zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        assert "is compressed" in refused(tmp_path / "b.pt", load_untrusted_torch)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (torch.zeros(1).expand(10**12), "holds a Tensor"),
            (torch.zeros(2, device="meta"), "holds a Tensor"),
            (torch.nn.Parameter(torch.zeros(2)), "holds a Parameter"),
            (torch.Size([1, 2]), "holds a Size"),
            (collections.Counter("aab"), "holds a Counter"),
            ({1, 2}, "holds a set"),
        ],
        ids=["expanded", "meta", "parameter", "size", "counter", "set"],
    )
    def test_other_values(self, tmp_path: Path, value: Any, says: str) -> None:
        torch.save({"x": value}, tmp_path / "a.pt")
        assert says in refused(tmp_path / "a.pt", load_untrusted_torch)

    def test_truncated_legacy_and_foreign(self, tmp_path: Path) -> None:
        torch.save({"x": torch.zeros(1000)}, tmp_path / "a.pt")
        data = (tmp_path / "a.pt").read_bytes()
        for length in (0, 10, 500, len(data) - 10):
            assert "torch.save" in refused(write(tmp_path / "cut.pt", data[:length]), load_untrusted_torch)
        torch.save({"x": torch.zeros(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        assert "before 1.6" in refused(tmp_path / "old.pt", load_untrusted_torch)
        buffer = io.BytesIO()
        np.savez(buffer, x=np.zeros(3))
        assert "data.pkl" in refused(write(tmp_path / "a.npz", buffer.getvalue()), load_untrusted_torch)

    def test_storage_missing(self, tmp_path: Path) -> None:
        torch.save({"x": torch.zeros(1000)}, tmp_path / "a.pt")
        with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
            for entry in old.infolist():
                if not entry.filename.endswith("data/0"):
                    new.writestr(entry.filename, old.read(entry))
        assert "damaged" in refused(tmp_path / "b.pt", load_untrusted_torch)
