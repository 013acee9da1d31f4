"""What processes really use, from the kernel's own account. Bytes."""


def resident(pid):
    """All of a process's resident memory, what it shares included; 0 if unknown."""
    return _sum(pid, ("Rss:",))


def private(pid):
    """What would be free if the process ended; 0 if unknown."""
    return _sum(pid, ("Private_Clean:", "Private_Dirty:"))


def kills():
    """How many processes of our control group the kernel has ended for want of memory.

    None where it does not tell.
    """
    try:
        with open("/proc/self/cgroup") as file:
            groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
        if "memory" in groups:
            return _count("/sys/fs/cgroup/memory%s/memory.oom_control" % groups["memory"])
        if "" in groups:  # the hierarchy of version 2 has no name
            return _count("/sys/fs/cgroup%s/memory.events" % groups[""])
    except (OSError, ValueError):
        pass  # not told, or told in a way that is not known yet
    return None


def _count(path):
    with open(path) as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return None


def _sum(pid, fields):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(fields))
    except (OSError, ValueError):
        return 0  # it ended meanwhile, or the kernel is older than 4.14
