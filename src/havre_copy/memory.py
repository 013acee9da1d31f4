"""How much memory processes use, and how much is left, according to the kernel. Bytes."""

import os


def resident(pid):
    """All of a process's resident memory, what it shares included; 0 if unknown."""
    return _sum(pid, ("Rss:",))


def private(pid):
    """The memory that the end of a process would free; 0 if unknown."""
    return _sum(pid, ("Private_Clean:", "Private_Dirty:"))


def kills():
    """How many processes of our control group the kernel has killed for memory; None if unknown."""
    try:
        group, version = _group("/")
        name = "memory.oom_control" if version == 1 else "memory.events"
        return _keyed(os.path.join(group, name)).get("oom_kill")
    except (OSError, ValueError):
        return None  # not there, or in an unknown format


def left(root="/"):
    """What our control group, and the machine, have left; None if neither is known."""
    amounts = []
    try:
        amounts.append(_keyed(os.path.join(root, "proc/meminfo"))["MemAvailable:"] * 1024)
    except (OSError, ValueError, KeyError):
        pass
    try:
        group, version = _group(root)
        limit, used, cached = _GROUP_FILES[version]
        # The kernel frees the cache of files when memory is needed.
        cache = _keyed(os.path.join(group, "memory.stat")).get(cached, 0)
        amounts.append(_number(group, limit) - _number(group, used) + cache)
    except (OSError, ValueError):
        pass  # no limit, or unknown
    return max(0, min(amounts)) if amounts else None


_GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def _group(root):
    """``(folder, version)`` of our control group's memory. Raises OSError, ValueError."""
    with open(os.path.join(root, "proc/self/cgroup")) as file:
        groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    if "memory" in groups:
        return os.path.join(root, _mounted(root, 1, groups["memory"])), 1
    if "" in groups:  # the hierarchy of version 2 has no name
        return os.path.join(root, _mounted(root, 2, groups[""])), 2
    raise ValueError("no control group counts memory")


def _mounted(root, version, group):
    """Where a group's folder is, below ``root``.

    The kernel names a group by its whole path. In a container, or a chroot, it may be a part of the
    hierarchy that is mounted, and what is above that part has no folder.
    """
    usual = "sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/memory"
    try:
        with open(os.path.join(root, "proc/self/mountinfo")) as file:
            mounts = [line.split() for line in file]
    except OSError:
        mounts = []
    for mount in mounts:
        part, mount_point = mount[3:5]
        kind, _, options = mount[mount.index("-") + 1 :][:3]
        is_it = kind == "cgroup2" if version == 2 else kind == "cgroup" and _names_memory(options)
        if is_it and part != "/" and (group + "/").startswith(part + "/"):
            return mount_point.lstrip("/") + group[len(part) :]
    return usual + group


def _names_memory(options):
    return "memory" in options.split(",")


def _number(folder, name):
    with open(os.path.join(folder, name)) as file:
        return int(file.read())


def _keyed(path):
    """A file of lines, each a name and a number, as a dict."""
    with open(path) as file:
        return {words[0]: int(words[1]) for words in map(str.split, file) if len(words) > 1}


def _sum(pid, fields):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(fields))
    except (OSError, ValueError):
        return 0  # it ended meanwhile, or the kernel is older than 4.14
