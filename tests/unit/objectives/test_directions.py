"""Files of directions: every layout and type, read row by row; what is none of them is refused in a line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

import featlight
from featlight.errors import UsageError
from featlight.objectives.directions import Directions, open_directions
from featlight.objectives.projection import along

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
    with pytest.raises(UsageError, match="square, 4 x 4: nothing tells which side is the layer's"):
        featlight.encoder_directions("square.npz", features=4)


def test_a_position_without_length_has_a_gradient_that_is_a_number():
    output = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _, value = along(output, torch.ones(1, 4, 1, 1), power=2.0)
    value.sum().backward()
    assert output.grad.isfinite().all()


def test_terms_take_vectors_of_any_kind_and_refuse_what_is_none():
    assert featlight.Term("a", direction=np.float32([1, 2])).direction == (1.0, 2.0)
    assert featlight.Term("a", direction=torch.tensor([1.0, 2.0])).direction == (1.0, 2.0)
    for words in ({"direction": []}, {"direction": [float("nan")]}, {"direction": "rows"}, {"direction": "row"},
                  {"direction": [1.0], "feature": 2}):  # fmt: skip
        with pytest.raises(ValueError, match="direction"):
            featlight.Term("a", **words)
