"""Whether a model returns the same for a batch as for its requests one by one: tried on a sample.

The sample's first row, its last row and all of it are predicted alone and then together. Twice,
with different numbers of rows: a list that is as long as one batch by chance is not as long as the
other.
"""

import json
import sys

from havre_copy.batching import (
    Batching,
    NotShareable,
    combine,
    form_of,
    share_out,
    slice_rows,
    structures_of,
)
from havre_copy.causes import describe
from havre_copy.encoding import Codec

# The order in which numbers are summed may depend on how many rows there are.
TOLERANCE = 1e-5


def try_batching(sample, call, codec):
    """Try the sample (bytes) as JSON, then as an array: ``(why not, whether arrays may be)``."""

    def read():
        return codec.loads(sample)

    def plain(result):
        return json.loads(codec.dumps(result).decode("utf-8"))

    try:
        data = read()
    except (ValueError, RecursionError):
        return "it is not JSON", False
    why = find_difference(read, call, plain)
    # A model that takes arrays has imported NumPy.
    numpy = sys.modules.get("numpy")
    if why or numpy is None or not _is_table_of_numbers(data):
        return why, False
    return "", not find_difference(lambda: numpy.array(read(), dtype=float), call, plain)


def report(connection, sample, call, codec):
    """Send the keeper the outcome of ``try_batching`` on a ``samples.Sample``, for ``decide``."""
    outcome = try_batching(sample.body, call, codec)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(outcome).encode("ascii"))


def decide(requested, sample, response):
    """The Batching to use where one was ``requested``, and a sentence about it.

    ``sample`` is None if there is none; ``response`` is that of the child, from ``probes.ask``.
    """
    if not sample:
        why = "the artifact has no sample request (test_input.json) to try it on"
    elif response is None:
        why = "trying it on the sample request took too long"
    elif response[0] != 200:
        why = "the process that tried it on the sample request died; see the predict log"
    else:
        why, arrays = json.loads(response[1].decode("utf-8"))
        if not why:
            structures = structures_of(Codec().loads(sample.body), arrays=arrays)
            return requested._replace(structures=structures), (
                "requests like the sample%s are answered up to %d at once: "
                "tried on it, with the same answers"
                % (", as JSON or arrays," if arrays else "", requested.size)
            )
        why = "the sample request does not show that it is safe: %s" % why
    return Batching(), "requests are answered one by one: %s" % why


def find_difference(read, call, plain):
    """Why requests like the sample must not be batched, or ``""``.

    ``read()`` parses the sample again each time: predict() may change its data. ``call(data)`` is
    predict(); ``plain(result)`` what a client reads in its JSON.
    """
    form = form_of(read())
    if form is None:
        return "it holds no rows: a list, or one object whose lists are equally long"
    last = form.rows - 1
    parts = [(0, 1), (last, last + 1), (0, form.rows)]
    for cuts in (parts, [(0, 1)] + parts):
        pieces = [slice_rows(read(), *cut) for cut in cuts]
        sizes = [end - begin for begin, end in cuts]
        together = combine(pieces)
        try:
            alone = [plain(call(slice_rows(read(), *cut))) for cut in cuts]
        except Exception as error:
            return "predict() raised on rows of it alone: %s" % describe(error)
        try:
            shares = [plain(share) for share in share_out(call(together), sizes)]
        except NotShareable as error:
            return str(error)
        except Exception as error:
            return "predict() raised on several requests together: %s" % describe(error)
        if not all(is_close(left, right) for left, right in zip(alone, shares)):
            return "predict() returns different results when requests are batched"
    return ""


def is_close(left, right):
    """Whether two JSON values are equal, numbers to a part in 100,000."""
    if type(left) is float or type(right) is float:
        if type(left) not in (int, float) or type(right) not in (int, float):
            return False
        return abs(left - right) <= TOLERANCE * max(abs(left), abs(right)) + 1e-12
    if type(left) is not type(right):
        return False
    if type(left) is list:
        return len(left) == len(right) and all(map(is_close, left, right))
    if type(left) is dict:
        return left.keys() == right.keys() and all(is_close(left[key], right[key]) for key in left)
    return left == right


def _is_table_of_numbers(data):
    return (
        type(data) is list
        and all(type(row) is list for row in data)
        and len({len(row) for row in data}) == 1
        and all(type(value) in (int, float) for row in data for value in row)
    )
