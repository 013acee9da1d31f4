"""Arrow tables as bodies: the IPC format as a stream or as a file, with the model's own pyarrow."""

import re

from havre_copy.causes import describe
from havre_copy.faults import HttpError
from havre_copy.libraries import library
from havre_copy.plain import NotEncodable

ARROW_STREAM = b"application/vnd.apache.arrow.stream"
ARROW_FILE = b"application/vnd.apache.arrow.file"

_SAFE = (14, 0, 1)  # earlier ones unpickle what a schema brings along (CVE-2023-47248)


def read(body, kind):
    """The ``pyarrow.Table`` in a body; its columns lie in the body. Raises HttpError."""
    pyarrow, ipc = _libraries(kind)
    begin = ipc.open_stream if kind == ARROW_STREAM else ipc.open_file
    try:
        # A copy uses one thread unless its model does otherwise.
        options = ipc.IpcReadOptions(use_threads=False)
        table = begin(pyarrow.py_buffer(body), options=options).read_all()
        table.validate(full=True)  # the reader trusts the offsets inside columns
        return table
    except Exception as error:  # pyarrow has many exception classes, and has changed them
        raise HttpError(
            400,
            "CannotParseRequest",
            "the body is no %s that can be read: %s" % (kind.decode("ascii"), describe(error)),
        ) from None


def write(result, kind, *, is_requested):
    """A result in the format, or None if it is no table.

    Tables, record batches and data frames are. So is a dict of columns, if ``is_requested``: if the
    client accepts the format by name. Raises NotEncodable for a table with a column that Arrow
    cannot hold.
    """
    is_one = (
        hasattr(result, "__arrow_c_stream__")
        or type(result).__name__ in ("Table", "RecordBatch", "DataFrame")
        or (is_requested and type(result) is dict)
    )
    if not is_one:
        return None
    pyarrow, ipc = _libraries(kind)
    try:
        table = _table(pyarrow, result)
        sink = pyarrow.BufferOutputStream()
        begin = ipc.new_stream if kind == ARROW_STREAM else ipc.new_file
        with begin(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()
    except Exception as error:
        raise NotEncodable(
            "predict() returned a table that Arrow cannot take: %s" % describe(error)
        ) from error


def _table(pyarrow, result):
    if isinstance(result, pyarrow.Table):
        return result
    if isinstance(result, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([result])
    if type(result).__module__.partition(".")[0] == "pandas":
        return pyarrow.Table.from_pandas(result)
    return pyarrow.table(result)


def _libraries(kind):
    pyarrow = library("pyarrow", kind)
    version = tuple(int(number) for number in re.findall("[0-9]+", pyarrow.__version__)[:3])
    if version < _SAFE:
        raise HttpError(
            415,
            "UnsupportedMediaType",
            "%s needs pyarrow 14.0.1 or newer in the model's environment, which has %s: older ones "
            "run code that a body brings along" % (kind.decode("ascii"), pyarrow.__version__),
        )
    return pyarrow, library("pyarrow.ipc", kind)
