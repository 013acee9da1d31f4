"""Bodies that a client has compressed: gzip and deflate, up to the largest body there may be."""

import zlib

from havre_copy.faults import HttpError

_KINDS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW = -15  # deflate without its header, which some clients send under that name
_PIECE = 64 * 1024
_MAX_MEMBERS = 1000  # of a gzip body; each may be empty


def decompress(body, encoding, limit):
    """The body without its ``content-encoding`` (bytes). Raises HttpError.

    At most ``limit`` bytes; no more are ever made, however small the compressed body.
    """
    kind = encoding.strip().lower()
    if kind in (b"", b"identity"):
        return body
    if kind not in _KINDS:
        raise HttpError(
            415,
            "UnsupportedMediaType",
            "the body has the content-encoding %s; gzip, deflate and none are taken"
            % encoding[:100].decode("ascii", "replace"),
        )
    bits = _KINDS[kind]
    if kind == b"deflate" and not _has_head(body):
        bits = _RAW
    try:
        return _inflated(body, bits, limit)
    except zlib.error:
        raise _broken(kind) from None


def _inflated(body, bits, limit):
    parts = []
    size = members = 0
    stream = zlib.decompressobj(bits)
    view = memoryview(body)
    for at in range(0, len(body), _PIECE):
        piece = view[at : at + _PIECE]
        while piece:
            if stream.eof:  # another member follows
                members += 1
                if bits != _KINDS[b"gzip"] or members > _MAX_MEMBERS:
                    raise zlib.error
                stream = zlib.decompressobj(bits)
            # One byte more than allowed shows that the body is too large.
            parts.append(stream.decompress(piece, limit + 1 - size))
            size += len(parts[-1])
            if size > limit:
                raise HttpError(
                    413,
                    "PayloadTooLarge",
                    "the body is larger than %d bytes when it is no longer compressed" % limit,
                )
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        raise zlib.error
    return b"".join(parts)


def _has_head(body):
    return len(body) > 1 and body[0] & 15 == 8 and (body[0] * 256 + body[1]) % 31 == 0


def _broken(kind):
    return HttpError(
        400,
        "CannotParseRequest",
        "the body is not %s, which its content-encoding says" % kind.decode("ascii"),
    )
