"""What a control group and the machine have left, of either version, and where nothing is told."""

from pathlib import Path

import pytest

from havre_copy import memory

MEMINFO = "MemTotal: 8000 kB\nMemAvailable: 4000 kB\nHugePages_Total: 0\n"
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/a\n0::/\n",
    "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "700000",
    "sys/fs/cgroup/memory/a/memory.stat": "cache 5\ntotal_inactive_file 100000\n",
}
VERSION_2 = {
    "proc/self/cgroup": "0::/a\n",
    "sys/fs/cgroup/a/memory.current": "700000",
    "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 100000\n",
}
CONTAINED = {
    **{name.replace("/a/", "/"): text for name, text in VERSION_1.items()},
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000",
    "proc/self/mountinfo": "35 31 0:32 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
}
"""The part of a hierarchy that is mounted begins with our group, or with one above it."""

LIMIT_1 = "sys/fs/cgroup/memory/a/memory.limit_in_bytes"
LIMIT_2 = "sys/fs/cgroup/a/memory.max"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 4_096_000),
        ({**VERSION_1, LIMIT_1: "1000000"}, 400_000),
        ({**VERSION_1, LIMIT_1: "9223372036854771712"}, 4_096_000),
        ({**VERSION_2, LIMIT_2: "1000000"}, 400_000),
        ({**VERSION_2, LIMIT_2: "500000"}, 0),
        ({**VERSION_2, LIMIT_2: "max"}, 4_096_000),
        (CONTAINED, 400_000),
        ({**CONTAINED, "proc/self/mountinfo": ""}, 4_096_000),
        (
            {
                "proc/self/cgroup": "4:cpu:/x\n0::/outer/a\n",
                "proc/self/mountinfo": "1 1 0:1 / / rw - ext4 /dev/x rw\n"
                "2 1 0:2 /outer /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
                **{name: text for name, text in VERSION_2.items() if name.startswith("sys")},
                LIMIT_2: "1000000",
            },
            400_000,
        ),
        ({"proc/self/cgroup": "0::/gone"}, 4_096_000),
        ({"proc/meminfo": "of another kind"}, None),
    ],
)
def test_what_is_left(tmp_path: Path, files: dict[str, str], left: int | None) -> None:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.left(str(tmp_path)) == left
