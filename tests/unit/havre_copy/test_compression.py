"""Compressed bodies: undone whole, or refused, and never more memory than a body may have."""

import gzip
import random
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre_copy.compression import decompress
from havre_copy.faults import HttpError

MOST = 1_000_000


def raw(body):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


KINDS = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b" GZIP ", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw),
    (b"identity", bytes),
    (b"", bytes),
]


@pytest.mark.parametrize(("encoding", "compress"), KINDS)
@pytest.mark.parametrize(
    "body",
    [b"", b"[1, 2]", random.Random(1).randbytes(MOST), b"0" * MOST],
    ids=["empty", "small", "random", "zeros"],
)
def test_a_body_comes_out_as_it_was(encoding, compress, body):
    assert decompress(compress(body), encoding, MOST) == body


@given(parts=st.lists(st.binary(max_size=200_000), min_size=1, max_size=5))
def test_a_gzip_of_several_members_is_one_body(parts):
    assert decompress(b"".join(map(gzip.compress, parts)), b"gzip", MOST) == b"".join(parts)


@pytest.mark.parametrize(("encoding", "compress"), KINDS[:-2])
def test_a_body_too_large_when_decompressed_is_refused_and_never_made(encoding, compress):
    bomb = compress(bytes(50 * MOST))
    tracemalloc.start()
    try:
        with pytest.raises(HttpError, match="larger than 1000000 bytes") as no:
            decompress(bomb, encoding, MOST)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST
    finally:
        tracemalloc.stop()
    assert no.value.status == 413


WHOLE = gzip.compress(b"[1, 2]" * 100, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", b""),
        (b"gzip", b"[1]"),
        (b"gzip", b"\x1f\x8b"),
        (b"gzip", WHOLE[:-1]),
        (b"gzip", WHOLE[:-8] + bytes(8)),
        (b"gzip", WHOLE + b"more"),
        (b"gzip", zlib.compress(b"[1]")),
        (b"deflate", b""),
        (b"deflate", b"\xff\xff"),
        (b"deflate", WHOLE),
        (b"deflate", zlib.compress(b"[1]") * 2),
        (b"deflate", zlib.compress(b"[1]")[:-1]),
    ],
)
def test_a_body_that_is_not_in_its_encoding_is_refused(encoding, body):
    with pytest.raises(
        HttpError, match=f"not {encoding.decode()}, which its content-encoding"
    ) as no:
        decompress(body, encoding, MOST)
    assert no.value.status == 400


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"\xff" * 300])
def test_an_unknown_encoding_is_refused_and_the_known_ones_named(encoding):
    with pytest.raises(HttpError, match="gzip, deflate and none are taken") as no:
        decompress(b"x", encoding, MOST)
    assert no.value.status == 415
    assert len(no.value.message) < 200


def test_a_million_empty_members_cost_no_time():
    began = time.process_time()
    with pytest.raises(HttpError):
        decompress(gzip.compress(b"") * 500_000, b"gzip", MOST)
    assert time.process_time() - began < 1
