"""Files of directions: every layout and type, read row by row; what is none of them is refused in a line."""

import json
import os
import struct
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import nn

import featlight
from featlight.config.measures import project
from featlight.errors import UsageError
from featlight.objectives.directions import Directions, open_directions

ROWS = np.random.default_rng(0).standard_normal((6, 4))


def files(dtype):
    rows = ROWS.astype(dtype)
    np.save("a.npy", rows)
    np.save("turned.npy", np.asfortranarray(rows))
    np.savez("a.npz", rows=rows, other=np.zeros(3))
    save_file({"other": np.zeros(3), "rows": rows}, "a.safetensors")
    return ["a.npy", "turned.npy", "a.npz:rows", "a.safetensors:rows"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_mapped_and_read_as_they_are_asked_for(dtype):
    for asked in files(dtype):
        found = open_directions(asked)
        assert isinstance(found.values, np.memmap)
        assert (found.count, found.features) == ROWS.shape
        read = found.rows([4, 1, 4])
        assert read.dtype == np.promote_types(dtype, np.float32)
        assert np.array_equal(read, ROWS.astype(dtype)[[4, 1, 4]])


def test_bfloat16_is_read_too():
    rows = torch.tensor(ROWS, dtype=torch.bfloat16)
    save_tensors({"rows": rows}, "half.safetensors")
    assert np.array_equal(open_directions("half.safetensors").rows(range(6)), rows.float().numpy())


def test_the_checksum_is_of_the_file_and_the_arrays_name():
    _, _, zipped, tensors = files(np.float32)
    sums = {asked: open_directions(asked).checksum for asked in ("a.npy", "turned.npy", zipped, tensors)}
    assert len(set(sums.values())) == 4
    assert sums[zipped].endswith(":rows")
    before = Directions.of_array(ROWS).checksum
    assert before == Directions.of_array(torch.tensor(ROWS)).checksum != Directions.of_array(ROWS + 1e-9).checksum


def broken():
    np.save("ints.npy", np.zeros((2, 2), int))
    np.save("flat.npy", np.zeros(4))
    np.save("objects.npy", np.array([[{}]], object), allow_pickle=True)
    np.savez_compressed("small.npz", rows=ROWS)
    np.savez("two.npz", first=ROWS, second=ROWS)
    save_file({"rows": np.zeros((2, 2), np.int32)}, "ints.safetensors")
    head = json.dumps({"rows": {"dtype": "F32", "shape": [900, 4], "data_offsets": [0, 14400]}}).encode()
    Path("short.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    Path("none.npz").write_bytes(b"no zip")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("gone.npy", "gone.npy: No such file"),
        ("words.txt", "'words.txt' given; a file of .npy, .npz, .safetensors is needed"),
        ("ints.npy", "int64; float16, float32 or float64 is needed"),
        ("flat.npy", r"an array of \(4,\); \(directions, features\) is needed"),
        ("objects.npy", "objects.npy: damaged"),
        ("small.npz", "'rows' is compressed"),
        ("two.npz", "two.npz holds 2 arrays; FILE:name is needed, of: first, second"),
        ("two.npz:frist", "no array 'frist'; nearest: 'first'"),
        ("flat.npy:x", "which has no name"),
        ("ints.safetensors", "'rows' is I32; allowed: F16, BF16, F32, F64"),
        ("short.safetensors", "short.safetensors: damaged"),
        ("none.npz", "none.npz: damaged"),
    ],
)
def test_what_is_none_is_refused_in_a_line(asked, message):
    broken()
    with pytest.raises(UsageError, match=message) as refusal:
        open_directions(asked)
    assert "\n" not in str(refusal.value)


def tensors(head, data=b"\0" * 96, name="odd.safetensors"):
    words = head if isinstance(head, bytes) else json.dumps(head).encode()
    Path(name).write_bytes(struct.pack("<Q", len(words)) + words + data)


def npy(head, data=b"\0" * 96, version=b"\x01\x00", name="odd.npy"):
    words = head.encode()
    Path(name).write_bytes(
        b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(words)) + words + data
    )


def zipped(change, **words):
    """An .npz whose bytes are changed."""
    np.savez("odd.npz", rows=ROWS, **words)
    Path("odd.npz").write_bytes(change(bytearray(Path("odd.npz").read_bytes())))


def flagged(content, flag=0, method=0):
    """The same zip, its entries said to be encrypted, or compressed, in both heads."""
    for sign, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(sign)
        while place >= 0:
            content[place + at] |= flag
            content[place + at + 2] = method
            place = content.find(sign, place + 4)
    return content


def flipped(content):
    content[content.find(b"\x93NUMPY") + 200] ^= 1
    return content


def moved(content):
    place = content.find(b"PK\1\2")
    content[place + 42 : place + 46] = struct.pack("<I", len(content) - 8)
    return content


def doubled():
    np.savez("odd.npz", rows=ROWS)
    with zipfile.ZipFile("odd.npz", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("rows.npy", b"another")


F32 = {"dtype": "F32", "shape": [6, 4]}
HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
HOSTILE = {
    "offsets that are negative": lambda: tensors({"rows": {**F32, "data_offsets": [-96, 0]}}),
    "offsets behind the end": lambda: tensors({"rows": {**F32, "data_offsets": [96, 192]}}),
    "offsets turned round": lambda: tensors({"rows": {**F32, "data_offsets": [96, 0]}}),
    "offsets into another tensor": lambda: tensors(
        {"rows": {**F32, "data_offsets": [0, 96]}, "b": {**F32, "data_offsets": [48, 144]}}, b"\0" * 144
    ),
    "a hole": lambda: tensors({"rows": {**F32, "data_offsets": [48, 144]}}, b"\0" * 144),
    "offsets that do not fit the shape": lambda: tensors({"rows": {**F32, "data_offsets": [0, 48]}}),
    "bytes behind the last tensor": lambda: tensors({"rows": {**F32, "data_offsets": [0, 96]}}, b"\0" * 100),
    "a tensor that is cut": lambda: tensors({"rows": {**F32, "data_offsets": [0, 96]}}, b"\0" * 95),
    "a head that is a list": lambda: tensors([1]),
    "a head that is a number": lambda: tensors(b"7"),
    "a head with a key twice": lambda: tensors(
        b'{"rows":{"dtype":"F32","shape":[6,4],"data_offsets":[0,96]},'
        b'"rows":{"dtype":"F32","shape":[6,4],"data_offsets":[0,96]}}'
    ),
    "an entry that is none": lambda: tensors({"rows": None}),
    "a shape of words": lambda: tensors({"rows": {**F32, "shape": "64", "data_offsets": [0, 96]}}),
    "a negative shape": lambda: tensors({"rows": {**F32, "shape": [-6, -4], "data_offsets": [0, 96]}}),
    "a shape beyond all bounds": lambda: tensors({"rows": {**F32, "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    "a head beyond all bounds": lambda: Path("odd.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}"),
    "deep brackets": lambda: tensors(b"[" * 100_000),
    "an .npy that is cut": lambda: npy(HEAD % "(6, 4)", b"\0" * 95),
    "bytes behind the array": lambda: npy(HEAD % "(6, 4)", b"\0" * 97),
    "an .npy without values": lambda: npy(HEAD % "(6, 4)", b""),
    "an .npy of a negative shape": lambda: npy(HEAD % "(-6, -4)"),
    "an .npy beyond all bounds": lambda: npy(HEAD % f"({2**62}, 4)", b""),
    "an .npy of a shape of floats": lambda: npy(HEAD % "(6.0, 4)"),
    "an .npy of another version": lambda: npy(HEAD % "(6, 4)", version=b"\x09\x00"),
    "an .npy of brackets": lambda: npy("(" * 9000),
    "an .npy with a long head": lambda: npy(HEAD % "(6, 4)" + " " * 40_000),
    "an .npz by the name of an .npy": lambda: (np.savez("a.npz", rows=ROWS), Path("a.npz").rename("odd.npy")),
    "an .npy by the name of an .npz": lambda: (np.save("a.npy", ROWS), Path("a.npy").rename("odd.npz")),
    "an .npy by the name of safetensors": lambda: (np.save("a.npy", ROWS), Path("a.npy").rename("odd.safetensors")),
    "nothing": lambda: Path("odd.npy").touch(),
    "an .npz said to be encrypted": lambda: zipped(partial(flagged, flag=1)),
    "an .npz said to be compressed": lambda: zipped(partial(flagged, method=8)),
    "an .npz compressed in some way": lambda: zipped(partial(flagged, method=97)),
    "an .npz with a bit that has flipped": lambda: zipped(flipped),
    "an .npz whose entry is elsewhere": lambda: zipped(moved),
    "an .npz that is cut": lambda: zipped(lambda content: content[:-30]),
    "an .npz with an array twice": doubled,
    "longdouble": lambda: np.save("odd.npy", ROWS.astype(np.longdouble)),
    "bools": lambda: np.save("odd.npy", ROWS > 0),
    "complex numbers": lambda: np.save("odd.npy", ROWS + 1j),
    "a structure": lambda: np.save("odd.npy", np.zeros((6, 4), [("a", "f4")])),
    "one number": lambda: np.save("odd.npy", np.float32(1)),
    "three dimensions": lambda: np.save("odd.npy", np.zeros((2, 3, 4))),
    "no row": lambda: np.save("odd.npy", np.zeros((0, 4))),
    "no column": lambda: np.save("odd.npy", np.zeros((4, 0))),
    "a folder": lambda: Path("odd.npy").mkdir(),
    "a pipe": lambda: os.mkfifo("odd.npy"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_says_what_is_not_so_is_refused_in_a_line(what):
    HOSTILE[what]()
    (asked,) = map(str, Path.cwd().glob("odd.*"))
    with pytest.raises(UsageError, match=r"^directions: .*odd\.") as refusal:
        open_directions(asked)
    assert str(refusal.value).isprintable()


def test_what_is_strange_and_right_is_read():
    np.save("big.npy", ROWS.astype(">f8"))
    np.savez("big.npz", rows=np.asfortranarray(ROWS.astype(">f4")))
    np.save("plain.npy", ROWS)
    Path("link.npy").symlink_to("plain.npy")
    for asked, dtype in (("big.npy", np.float64), ("big.npz", np.float32), ("link.npy", np.float64)):
        read = open_directions(asked).rows([5, 0])
        assert read.dtype == dtype
        assert read.dtype.isnative
        assert np.array_equal(read, ROWS.astype(dtype)[[5, 0]])


@pytest.mark.parametrize("change", ["cut", "written over", "replaced", "gone"])
def test_a_file_that_changes_while_it_is_read_is_refused(change):
    np.save("rows.npy", np.tile(ROWS, (2000, 1)))
    found = open_directions("rows.npy")
    match change:
        case "cut":
            os.truncate("rows.npy", 4096)  # rows in memory that is mapped would end the process
        case "written over":
            Path("rows.npy").write_bytes(bytes(Path("rows.npy").stat().st_size))
            os.utime("rows.npy", (1, 1))
        case "replaced":
            np.save("other.npy", ROWS)
            Path("other.npy").replace("rows.npy")
        case "gone":
            Path("rows.npy").unlink()
    with pytest.raises(UsageError, match=r"rows\.npy: the file has changed since it was opened; put it back"):
        found.rows([11_000])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_row_that_is_no_number_is_named(value):
    rows = np.tile(ROWS, (3, 1))
    rows[7, 2] = value
    found = Directions.of_array(rows)
    found.check_finite([0, 1, 8, 17], np.dtype(np.float32))
    with pytest.raises(UsageError, match="an array: row 7 holds NaN, Inf or a number beyond float32; "):
        found.check_finite([17, 7], np.dtype(np.float32))
    if np.isfinite(value):
        found.check_finite([7], np.dtype(np.float64))


NEGATIVE = torch.tensor(ROWS).to(torch.complex64).conj().imag  # a view that holds the numbers turned round
OF_PYTHON = {
    "lists": (ROWS.tolist(), ROWS),
    "lists of whole numbers": ([[1, 0], [0, 1]], np.eye(2)),
    "a row": (ROWS[0], ROWS[:1]),
    "a list of arrays": (list(ROWS), ROWS),
    "a list of tensors with gradients": ([torch.tensor(row, requires_grad=True) for row in ROWS], ROWS),
    "big endian": (ROWS.astype(">f8"), ROWS),
    "turned round": (np.asfortranarray(ROWS), ROWS),
    "backwards": (ROWS[::-1, ::-1], ROWS[::-1, ::-1]),
    "for reading alone": (np.broadcast_to(ROWS[0], (3, 4)), ROWS[[0, 0, 0]]),
    "a parameter": (nn.Parameter(torch.tensor(ROWS)), ROWS),
    "a result with gradients": (torch.tensor(ROWS, requires_grad=True) * 2, ROWS * 2),
    "not contiguous": (torch.tensor(ROWS).T.contiguous().T, ROWS),
    "negative": (NEGATIVE, NEGATIVE.resolve_neg().numpy()),
    "coo": (torch.tensor(ROWS).to_sparse(), ROWS),
    "csr": (lambda: torch.tensor(ROWS).to_sparse_csr(), ROWS),
    "quantized": (lambda: torch.quantize_per_tensor(torch.eye(4), 0.5, 0, torch.qint8), np.eye(4)),
    **{
        str(kind): (torch.tensor(ROWS).to(kind), torch.tensor(ROWS).to(kind).float().numpy())
        for kind in (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
    },
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize")
@pytest.mark.parametrize("kind", OF_PYTHON)
def test_an_array_of_any_kind_gives_its_numbers(kind):
    given, expected = OF_PYTHON[kind]
    given = given() if callable(given) else given
    found = Directions.of_array(given)
    assert found.values.shape == expected.shape
    assert np.array_equal(found.rows(range(found.count)), expected)
    assert len(found.checksum) == 64


NONE_OF_PYTHON = {
    "meta": (torch.zeros(6, 4, device="meta"), "directions: Tensor given, which cannot be converted to an array"),
    "ragged": ([[1.0], [1.0, 2.0]], "directions: list given, which cannot be converted to an array"),
    "masked": (np.ma.masked_greater(ROWS, 0), "directions: MaskedArray given, which cannot be converted to an array"),
    "ints": (torch.ones(6, 4, dtype=torch.int32), "an array of int32; float16, float32 or float64 is needed"),
    "bools": (ROWS > 0, "an array of bool"),
    "complex": (torch.ones(6, 4, dtype=torch.complex64), "an array of complex64"),
    "longdouble": (ROWS.astype(np.longdouble), "an array of float128"),
    "objects": (ROWS.astype(object), "an array of object"),
    "words": ([["a", "b"]], "an array of <U1"),
    "a mapping": ({0: ROWS}, "an array of object"),
    "a module": (nn.Linear(4, 6), "an array of object"),
    "three dimensions": (np.zeros((2, 3, 4)), r"an array of \(2, 3, 4\); \(directions, features\) is needed"),
    "nothing": ([], r"an array of \(1, 0\)"),
    "no row": (torch.zeros(0, 4), r"an array of \(0, 4\)"),
}


@pytest.mark.parametrize("kind", NONE_OF_PYTHON)
def test_an_array_that_holds_no_directions_is_refused_in_a_line(kind):
    given, message = NONE_OF_PYTHON[kind]
    with pytest.raises(UsageError, match=message) as refusal:
        Directions.of_array(given)
    assert str(refusal.value).isprintable()


def test_encoders_are_turned_to_rows():
    save_file({"W_enc": np.ascontiguousarray(ROWS.T), "W_dec": ROWS, "b_enc": np.zeros(6)}, "lens.safetensors")
    np.savez("linear.npz", **{"encoder.weight": ROWS, "encoder.bias": np.zeros(6)})
    np.savez("narrow.npz", **{"encoder.weight": ROWS[:2]})
    for file in ("lens.safetensors", "linear.npz"):
        for features in (None, 4):
            assert np.array_equal(featlight.encoder_directions(file, features), ROWS)
    assert featlight.encoder_directions("narrow.npz").shape == (2, 4)  # a linear layer's weight is never turned
    with pytest.raises(UsageError, match="no side has the layer's 5 features"):
        featlight.encoder_directions("lens.safetensors", features=5)
    np.savez("square.npz", W_enc=ROWS[:4])
    with pytest.raises(UsageError, match="square, 4 x 4: the layer's side is ambiguous"):
        featlight.encoder_directions("square.npz", features=4)


def test_a_position_without_length_has_a_gradient_that_is_a_number():
    output = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _, value = project(output, torch.ones(1, 4, 1, 1), power=2.0)
    value.sum().backward()
    assert output.grad.isfinite().all()


def test_terms_take_vectors_of_any_kind_and_refuse_what_is_none():
    assert featlight.Term("a", direction=np.float32([1, 2])).direction == (1.0, 2.0)
    assert featlight.Term("a", direction=torch.tensor([1.0, 2.0])).direction == (1.0, 2.0)
    for words in ({"direction": []}, {"direction": [float("nan")]}, {"direction": "rows"}, {"direction": "row"},
                  {"direction": [1.0], "feature": 2}):  # fmt: skip
        with pytest.raises(ValueError, match="direction"):
            featlight.Term("a", **words)
