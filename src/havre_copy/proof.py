"""Whether a batch answers as its requests would have been answered alone: tried, on a sample.

The sample's first row, its last row and all of it are asked alone and then together. Twice, with
different numbers of rows: a list that is as long as one batch by chance is not as long as another.
"""

import json
import sys

from havre_copy.batching import (
    Batching,
    NotShareable,
    combine,
    form_of,
    share_out,
    structures_of,
    take,
)
from havre_copy.encoding import Codec
from havre_copy.faults import describe

# The order in which numbers are summed may depend on how many rows there are.
TOLERANCE = 1e-5


def prove(sample, call, codec):
    """Try the sample (bytes) as JSON, then as an array: ``(why not, whether arrays, too)``."""

    def read():
        return codec.loads(sample)

    def plain(result):
        return json.loads(codec.dumps(result).decode("utf-8"))

    try:
        data = read()
    except (ValueError, RecursionError):
        return "it is not JSON", False
    why = disprove(read, call, plain)
    # Whoever can do with arrays has imported NumPy.
    numpy = sys.modules.get("numpy")
    if why or numpy is None or not _is_table_of_numbers(data):
        return why, False
    return "", not disprove(lambda: numpy.array(read(), dtype=float), call, plain)


def tell(connection, sample, call, codec):
    """Tell the keeper what ``prove`` says of a ``samples.Sample``; ``settle`` understands it."""
    outcome = prove(sample.body, call, codec)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(outcome).encode("ascii"))


def settle(wanted, sample, told):
    """The Batching that may be, and a sentence about it.

    ``sample`` is None without one; ``told`` what the child said to it, as of ``probes.ask``.
    """
    if not sample:
        why = "the artifact has no sample request (test_input.json) to try it on"
    elif told is None:
        why = "trying it on the sample request took too long"
    elif told[0] != 200:
        why = "the process that tried it on the sample request died; see the predict log"
    else:
        why, arrays = json.loads(told[1].decode("utf-8"))
        if not why:
            structures = structures_of(Codec().loads(sample.body), arrays=arrays)
            return wanted._replace(structures=structures), (
                "requests like the sample%s are answered up to %d at once: "
                "tried on it, with the same answers"
                % (", as JSON or arrays," if arrays else "", wanted.size)
            )
        why = "the sample request does not show that it is safe: %s" % why
    return Batching(), "requests are answered one by one: %s" % why


def disprove(read, call, plain):
    """Why requests like the sample must not be batched, or ``""``.

    ``read()`` is the sample's data, anew each time: predict() may change it. ``call(data)`` is
    predict(); ``plain(result)`` what its JSON says.
    """
    form = form_of(read())
    if form is None:
        return "it holds no rows: a list, or one object whose lists are equally long"
    last = form.rows - 1
    parts = [(0, 1), (last, last + 1), (0, form.rows)]
    for cuts in (parts, [(0, 1)] + parts):
        pieces = [take(read(), *cut) for cut in cuts]
        sizes = [end - begin for begin, end in cuts]
        together = combine(pieces)
        try:
            alone = [plain(call(take(read(), *cut))) for cut in cuts]
        except Exception as error:
            return "predict() raised on rows of it alone: %s" % describe(error)
        try:
            shares = [plain(share) for share in share_out(call(together), sizes)]
        except NotShareable as error:
            return str(error)
        except Exception as error:
            return "predict() raised on several requests together: %s" % describe(error)
        if not all(same(one, other) for one, other in zip(alone, shares)):
            return "predict() answers several requests together otherwise than alone"
    return ""


def same(one, other):
    """Whether two JSON values are equal, numbers to a part in 100,000."""
    if type(one) is float or type(other) is float:
        if type(one) not in (int, float) or type(other) not in (int, float):
            return False
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other)) + 1e-12
    if type(one) is not type(other):
        return False
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def _is_table_of_numbers(data):
    return (
        type(data) is list
        and all(type(row) is list for row in data)
        and len({len(row) for row in data}) == 1
        and all(type(value) in (int, float) for row in data for value in row)
    )
