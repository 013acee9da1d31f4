"""How many requests an instance holds: room for its clients, but none that waits in vain. Pure."""


def most_requests(
    *, copies: int, mean_s: float, per_copy: int, at_least: int, wait_s: float
) -> int:
    """Requests inside at once, waiting ones included; one more is answered 429.

    ``per_copy`` for each copy in any case; beyond that up to ``at_least``, as long as the last of
    them is served within ``wait_s`` seconds. ``mean_s`` is what a prediction takes, 0 while none
    was made. Between the two it moves in powers of two: a mean that trembles changes nothing.
    """
    fewest = per_copy * copies
    if mean_s <= 0:
        return max(fewest, at_least)
    in_time = int(wait_s * copies / mean_s)
    power_of_two = 1 << max(0, in_time.bit_length() - 1)
    return max(fewest, min(at_least, power_of_two))
