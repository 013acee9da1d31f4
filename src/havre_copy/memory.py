"""What processes really use, from the kernel's own account. Bytes."""


def resident(pid):
    """All of a process's resident memory, what it shares included; 0 if unknown."""
    return _sum(pid, ("Rss:",))


def private(pid):
    """What would be free if the process ended; 0 if unknown."""
    return _sum(pid, ("Private_Clean:", "Private_Dirty:"))


def _sum(pid, fields):
    try:
        with open("/proc/%d/smaps_rollup" % pid) as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(fields))
    except (OSError, ValueError):
        return 0  # it ended meanwhile, or the kernel is older than 4.14
