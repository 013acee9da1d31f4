import io
import os

import pytest

from havre_copy.streams import LossyFile


def test_a_print_onto_a_full_disk_is_lost_and_counted_and_raises_nothing():
    with open("/dev/full", "wb", buffering=0) as full:
        file = LossyFile(full.fileno())
        stream = io.TextIOWrapper(file, encoding="utf-8", line_buffering=True)
        print("äh", file=stream)
        print("again", file=stream)
        assert file.lost_bytes == len("äh\nagain\n".encode())


def test_every_line_goes_out_at_its_end_in_one_write():
    reader, writer = os.pipe()
    stream = io.TextIOWrapper(LossyFile(writer), encoding="utf-8", line_buffering=True)
    stream.write("half ")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    stream.write("a line\n")
    assert os.read(reader, 100) == b"half a line\n"
    os.close(reader)
    with pytest.raises(BrokenPipeError):  # what is not the disk's fault is told
        stream.write("more\n")
    os.close(writer)
