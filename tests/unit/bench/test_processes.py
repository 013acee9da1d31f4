"""Accounting from /proc, on texts as the kernel writes them, and on this very process."""

import os
import sys
import time
from pathlib import Path

from bench.processes import (
    Stat,
    Times,
    command_of,
    cpu_seconds,
    descendants,
    is_alive,
    parent_of,
    parse_pss,
    parse_stat,
    pss_bytes,
    times_of,
)

STAT = (
    "4711 (a) b) (c) S 17 4711 4711 0 -1 4194560 2511 9 0 0 11 22 33 44 20 0 3 0 88 "
    "12345678 900 18446744073709551615 1 1 0 0 0 0 0 16781312 17642 0 0 0 17 1 0 0 0 0 0"
)
ROLLUP = """55d0c0a00000-7ffd2a5fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               10240 kB
Pss:                2048 kB
Pss_Dirty:           512 kB
"""


def test_times_are_found_behind_a_name_with_brackets_and_spaces() -> None:
    assert parse_stat(STAT) == Stat(pid=4711, parent=17, ticks=11 + 22 + 33 + 44)


def test_pss_is_told_from_its_parts() -> None:
    assert parse_pss(ROLLUP) == 2048 * 1024
    assert parse_pss("") == 0


def test_a_tree_holds_children_of_children_and_nobody_else() -> None:
    parents = {2: 1, 3: 2, 4: 2, 5: 4, 6: 1, 7: 6}
    assert sorted(descendants(2, parents)) == [3, 4, 5]
    assert descendants(5, parents) == []


def test_time_of_a_child_that_ended_is_still_counted() -> None:
    before = cpu_seconds(os.getpid())
    child = os.fork()
    if child == 0:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        os._exit(0)
    os.waitpid(child, 0)
    assert cpu_seconds(os.getpid()) - before >= 0.08


def test_this_process_has_memory_and_one_that_is_gone_has_none() -> None:
    assert pss_bytes([os.getpid()]) > 1_000_000
    assert pss_bytes([2**22 + 1]) == 0


def test_a_process_tells_its_parent_its_command_and_its_own_time() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    assert Path(sys.executable).name in command_of(os.getpid())
    began = times_of(os.getpid())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert (times_of(os.getpid()) - began).both >= 0.08
    assert times_of(2**22 + 1) == Times()


def test_a_zombie_is_not_alive() -> None:
    assert is_alive(os.getpid())
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child)
    os.waitpid(child, 0)
    assert not is_alive(child)
