"""The .npy of a stranger: read as NumPy reads it, or refused with a reason."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from havre_copy import arrays
from havre_copy.faults import HttpError

PLAIN = st.one_of(
    numpy_strategies.boolean_dtypes(),
    numpy_strategies.integer_dtypes(endianness="?"),
    numpy_strategies.floating_dtypes(endianness="?"),
    numpy_strategies.complex_number_dtypes(endianness="?"),
    numpy_strategies.datetime64_dtypes(endianness="?"),
    numpy_strategies.byte_string_dtypes(endianness="?", min_len=1),
    numpy_strategies.unicode_string_dtypes(endianness="?", min_len=1),
)
SHAPES = numpy_strategies.array_shapes(min_dims=0, min_side=0)


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, array, version)
    return held.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1") + data


@given(array=numpy_strategies.arrays(PLAIN, SHAPES), fortran=st.booleans())
def test_what_numpy_writes_is_read_and_what_is_written_numpy_reads(array, fortran):
    array = np.array(array, order="F" if fortran else "C")
    read = arrays.read(saved(array))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == array.shape
    assert read.flags.writeable
    assert read.flags.aligned
    assert read.dtype.isnative
    np.testing.assert_array_equal(np.load(io.BytesIO(arrays.write(array))), array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(version):
    assert arrays.read(saved(np.arange(5), version)).tolist() == [0, 1, 2, 3, 4]


def test_a_slice_and_a_fortran_array_are_written_as_they_read():
    table = np.arange(12.0).reshape(3, 4)
    for array in (table[:, ::2], table.T, table[::-1], np.asfortranarray(table)):
        np.testing.assert_array_equal(np.load(io.BytesIO(arrays.write(array))), array)


def test_any_byte_of_a_bool_is_true_or_false():
    read = arrays.read(saved(np.zeros(3, bool))[:-3] + b"\x00\x01\x07")
    assert read.view("u1").tolist() == [0, 1, 1]


def test_an_odd_start_of_the_data_is_no_harm():
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
    read = arrays.read(header(text + "\n", np.array([1.5, 2.5]).tobytes()))
    assert read.tolist() == [1.5, 2.5]
    assert read.flags.aligned


WHOLE = saved(np.arange(6.0).reshape(2, 3))
FORM = "{'descr': %s, 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "does not begin"),
        (b"[[1, 2]]", "does not begin"),
        (b"PK\x03\x04 an .npz", "does not begin"),
        (WHOLE[:6], "cut short"),
        (WHOLE[:9], "cut short"),
        (WHOLE[:40], "cut short"),
        (WHOLE[:-1], "promises 48 bytes of data, the body has 47"),
        (WHOLE + b"\0", "promises 48 bytes of data, the body has 49"),
        (WHOLE.replace(b"\x01\x00", b"\x09\x00", 1), "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "at most 4096"),
        (saved(np.array([object()], dtype=object))[:128], "unpickled"),
        (saved(np.zeros(2, [("a", "<f8"), ("b", "<i4")])), "records as Arrow"),
        (saved(np.zeros(2, "V8")), "not plain"),
        (header(FORM % ("'<i3'", "(1,)"), b"abc"), "not known"),
        (header(FORM % ("'<U0'", f"({10**12},)")), "have no bytes"),
        (header(FORM % ("'<f8'", "(-1,)")), "shape"),
        (header(FORM % ("'<f8'", "(1.0,)"), b"12345678"), "shape"),
        (header(FORM % ("'<f8'", "(2,,3)")), "shape"),
        (header(FORM % ("'<f8'", "(" + "1" * 400 + ",)")), "shape"),
        (header(FORM % ("'<f8'", f"({2**62}, 4)")), "promises"),
        (header(FORM % ("'<f8'", f"(0, {2**70})")), "read"),
        (header(FORM % ("'<f8'", "(" + "1, " * 100 + ")"), b"12345678"), "read"),
        (header(FORM % ("'<U2'", "(1,)"), b"\xff\xff\xff\x7fA\0\0\0"), "no characters"),
        (header(FORM % ("'>U2'", "(1,)"), b"\0\0\0A\0\x11\0\0"), "no characters"),
        (header(FORM % ("__import__('os')", "(1,)")), "not that of a plain array"),
        (header("{'descr': '<f8'"), "not that of a plain array"),
        (header("(" * 4000), "not that of a plain array"),
    ],
)
def test_anything_else_is_refused_with_a_reason(body, reason):
    with pytest.raises(HttpError, match=reason) as caught:
        arrays.read(body)
    assert caught.value.status == 400


@given(st.data())
def test_no_damage_to_a_body_is_more_than_a_refusal(data):
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(HttpError):
        assert isinstance(arrays.read(bytes(damaged)), np.ndarray)


def test_objects_and_records_have_no_npy():
    assert arrays.write(np.array([None, "a"], dtype=object)) is None
    assert arrays.write(np.zeros(2, [("a", "<f8")])) is None
