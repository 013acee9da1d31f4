import json
import os
from time import monotonic_ns

from havre_copy.output import _append


def test_a_mark_is_json_whatever_a_client_calls_its_request(tmp_path):
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    names = [b'a"b\\c', b"", b"plain"]
    written = _append(file, names, 3, 9, monotonic_ns() - 5_000_000, lost=7)
    os.close(file)
    data = (tmp_path / "out").read_bytes()
    assert len(data) == written
    assert data.startswith(b"\x1e")
    mark = json.loads(data[1:])
    assert mark["requests"] == ['a"b\\c', "", "plain"]
    assert (mark["from"], mark["to"], mark["lost"]) == (3, 9, 7)
    assert 4 <= mark["ended"] - mark["began"] <= 1000
