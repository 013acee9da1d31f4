"""NumPy arrays as bodies: the .npy format, version 1 to 3, one array, never a pickle.

Parsed here: NumPy's own reader takes a file, parses the header as Python source and copies the data
piece by piece, which costs ten times as much for a small array.
"""

import re
from functools import lru_cache
from sys import maxunicode

from havre_copy.faults import HttpError
from havre_copy.libraries import library

NPY = b"application/x-npy"

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 4096
_ALIGNMENT = 64  # of the data, from the beginning of the body
_HEADER = re.compile(
    rb"\s*\{\s*'descr'\s*:\s*('[^']*'|\[.*\])\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    rb"\s*'shape'\s*:\s*\(([^()]*)\)\s*,?\s*\}\s*"
)
_PLAIN_TYPE = re.compile(r"[<>=|]?(?:[biufc][0-9]{1,2}|[mM]8(?:\[[0-9A-Za-z]+\])?|[SU][0-9]{1,7})")
_DIGITS = re.compile(rb"[0-9]{1,20}")


def read(body):
    """The array in a body. It is predict()'s own: writable, aligned, in native byte order.

    Raises HttpError for anything that is not exactly one array of plain values.
    """
    numpy = library("numpy", NPY)
    start, header = _split(body)
    dtype, order, shape, size = _layout(header)
    if len(body) - start != size:
        raise _not_npy(
            "its header promises %d bytes of data, the body has %d" % (size, len(body) - start)
        )
    try:
        array = owned(numpy.ndarray(shape, dtype, body, start, None, order))
    except (ValueError, OverflowError) as error:  # too many dimensions; too long beside a zero
        raise _not_npy(str(error)) from None
    if dtype.kind == "U" and size and array.reshape(-1, order=order).view("u4").max() > maxunicode:
        raise _not_npy("it holds numbers that are no characters")
    return array


def owned(array):
    """A copy of an array whose data lie in a body, fit for any use: see ``read``.

    A copy costs 3 µs for 60 KB; a body is immutable, and may begin at any address.
    """
    if array.dtype.kind == "b":
        return array.view("u1").astype("b1")  # a body may have any byte, a boolean only 0 and 1
    return array.astype(array.dtype.newbyteorder("="), "K")


def write(array):
    """An array as .npy, or None for objects, records and types beyond NumPy's own."""
    descr = array.dtype.str
    if not _PLAIN_TYPE.fullmatch(descr):
        return None
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %r, }" % (
        descr,
        is_fortran,
        array.shape,
    )
    length = -(-(len(_MAGIC) + 4 + len(header) + 1) // _ALIGNMENT) * _ALIGNMENT - len(_MAGIC) - 4
    return b"".join(
        (
            _MAGIC,
            b"\x01\x00",
            length.to_bytes(2, "little"),
            header.ljust(length - 1).encode("ascii"),
            b"\n",
            array.tobytes("A"),
        )
    )


def _split(body):
    """The offset of the data, and the header's text."""
    if not body.startswith(_MAGIC):
        raise _not_npy("it does not begin as such a file does")
    version = body[6:7]
    if version == b"\x01":
        begin = 10
    elif version in (b"\x02", b"\x03"):
        begin = 12
    else:
        raise _not_npy("it has a version that is not known" if version else "it is cut short")
    length = int.from_bytes(body[8:begin], "little")
    if length > _MAX_HEADER_BYTES:
        raise _not_npy("its header has %d bytes; at most %d are read" % (length, _MAX_HEADER_BYTES))
    start = begin + length
    if len(body) < start:
        raise _not_npy("it is cut short")
    return start, body[begin:start]


@lru_cache(maxsize=64)
def _layout(header):
    """dtype, order, shape and bytes of data. Clients mostly send the same few headers."""
    numpy = library("numpy", NPY)
    fields = _HEADER.fullmatch(header)
    if fields is None:
        raise _not_npy("its header is not that of a plain array")
    descr, fortran, lengths = fields.groups()
    name = descr.strip(b"'").decode("latin-1")
    if name.endswith("O"):
        raise _not_npy("it holds Python objects, which would have to be unpickled: not taken")
    if not _PLAIN_TYPE.fullmatch(name):
        raise _not_npy("its type %s is not plain; send records as Arrow" % name[:100])
    try:
        dtype = numpy.dtype(name)
    except (TypeError, ValueError):
        raise _not_npy("its type %s is not known" % name) from None
    if not dtype.itemsize:
        raise _not_npy("its values have no bytes")
    shape = []
    size = dtype.itemsize
    for length in lengths.strip().rstrip(b",").split(b",") if lengths.strip() else ():
        length = length.strip()
        if not _DIGITS.fullmatch(length):
            raise _not_npy("its shape (%s) is not one" % lengths.decode("latin-1")[:100])
        shape.append(int(length))
        size *= shape[-1]
    return dtype, "F" if fortran == b"True" else "C", tuple(shape), size


def _not_npy(what):
    return HttpError(400, "CannotParseRequest", "the body is no .npy that can be read: %s" % what)
