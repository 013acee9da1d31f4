"""JSON in and out, with the same result whichever library does it.

In: what the standard library accepts (NaN and Infinity too). Out: strict JSON in UTF-8; a NaN or an
infinity becomes ``null``, because most clients could not read it. ``plain`` converts results that
are not plain JSON.
"""

from importlib import import_module
from json import JSONDecoder, JSONEncoder
from json import loads as _loads_any_encoding

from havre_copy.plain import NotEncodable, may_lose_keys, plain, simpler

_decode = JSONDecoder().decode
_DIGITS_ONLY = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_BEYOND_64_BITS = b"0" * 19


class Codec:
    """``loads`` and ``dumps``; by default with the standard library.

    ``fast`` is ``orjson``, where there is one.
    """

    def __init__(self, fast=None):
        self._fast_loads = fast and fast.loads
        self._encode = _dumps_standard if fast is None else _dumps_with(fast)

    def loads(self, body):
        """The value of a JSON text (bytes). Raises ValueError or RecursionError."""
        # orjson reads an integer beyond 64 bits as a float: leave long numbers to the slow path.
        if self._fast_loads and _BEYOND_64_BITS not in body.translate(_DIGITS_ONLY):
            try:
                return self._fast_loads(body)
            except ValueError:
                pass  # NaN, a lone surrogate, a byte order mark: the standard library may read it
        try:
            return _decode(body.decode("utf-8"))
        except UnicodeDecodeError:
            return _loads_any_encoding(body)  # UTF-16 and UTF-32 are JSON as well
        except ValueError:
            if body.startswith(b"\xef\xbb\xbf"):
                return _decode(body.decode("utf-8-sig"))
            raise

    def dumps(self, result):
        """JSON text (bytes) of what predict() returned. Raises NotEncodable."""
        try:
            return self._encode(result)
        except NotEncodable:
            raise
        except (TypeError, ValueError, RecursionError):
            # NaN, keys that are not text, an integer beyond 64 bits, a lone surrogate, a cycle.
            try:
                return _standard_ascii(plain(result)).encode("ascii")
            except RecursionError:
                raise NotEncodable("the result contains itself or is nested too deeply") from None


def fastest_codec(libraries=("havre_copy.orjson", "orjson")):
    """The codec for this interpreter: with orjson, if there is one that works.

    The first is our own, beside these modules, for the Python that havre itself runs on; the other
    is the environment's.
    """
    for library in libraries:
        try:
            codec = Codec(import_module(library))
            if codec.dumps({"a": [1, None]}) == b'{"a":[1,null]}' and codec.loads(b"[1]") == [1]:
                return codec
        except Exception:  # absent, broken, or a file of the user's with that name
            pass
    return Codec()


def _dumps_with(fast):
    # Not orjson's own conversion of dataclasses and dates: the JSON must not depend on the library.
    option = fast.OPT_PASSTHROUGH_DATACLASS | fast.OPT_PASSTHROUGH_DATETIME
    dumps = fast.dumps

    def encode(result):
        try:
            return dumps(result, simpler, option)
        except TypeError as error:
            cause = error.__cause__
            if isinstance(cause, NotEncodable):
                raise cause from None
            raise

    return encode


def _simpler_whole(value):
    """``simpler`` for the standard library, which would write both keys of ``{1: …, "1": …}``.

    Raises TypeError.
    """
    simple = simpler(value)
    if may_lose_keys(simple):
        raise TypeError("keys that are not text")
    return simple


_standard = JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_simpler_whole
).encode
_standard_ascii = JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _dumps_standard(result):
    if may_lose_keys(result):
        raise TypeError("keys that are not text")
    return _standard(result).encode("utf-8")
