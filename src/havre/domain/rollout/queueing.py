"""How many requests an instance may hold: many clients, but none that waits in vain. Pure."""


def max_in_flight(
    *, copies: int, mean_s: float, per_copy: int, queue_limit: int, wait_s: float
) -> int:
    """Requests inside at once, waiting ones included; one more gets 429.

    ``per_copy`` for each copy in any case; beyond that up to ``queue_limit``, as long as the last
    of them is served within ``wait_s`` seconds. ``mean_s`` is what a prediction takes, 0 while
    there was none. Between the two the limit is a power of two, so that a mean that fluctuates
    rarely changes it.
    """
    guaranteed = per_copy * copies
    if mean_s <= 0:
        return max(guaranteed, queue_limit)
    in_time = int(wait_s * copies / mean_s)
    power_of_two = 1 << max(0, in_time.bit_length() - 1)
    return max(guaranteed, min(queue_limit, power_of_two))
