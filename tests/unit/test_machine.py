import os

from havre.domain.shape import GIB
from havre.machine import measure_machine


def test_this_machine_has_threads_and_memory():
    machine = measure_machine()
    assert 1 <= machine.threads <= (os.cpu_count() or 1)
    assert machine.memory_bytes > GIB / 4


def test_gpus_are_counted_by_their_device_files(tmp_path):
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert measure_machine(tmp_path).gpus == 2
