"""What a deployment's bandwidth lets through, in words. Pure."""

from havre.domain.deployment import NO_CAP_MBPS

BYTES_PER_MBIT = 125_000


def in_requests(mbps: int, *, asked_bytes: int, answered_bytes: int) -> list[str]:
    """A line with the rate of requests whose bodies are this large; none where nothing is held
    back. The direction with the larger body decides.
    """
    if mbps >= NO_CAP_MBPS:
        return []
    per_second = mbps * BYTES_PER_MBIT / max(1, asked_bytes, answered_bytes)
    rate = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
    return [
        f"The bandwidth of {mbps} Mbps lets through about {rate} requests a second like the "
        f"artifact's own sample ({asked_bytes:,} bytes, answered with {answered_bytes:,}); "
        "more are held back."
    ]


def in_bytes(mbps: int) -> list[str]:
    """The same in bytes, where no request is known."""
    if mbps >= NO_CAP_MBPS:
        return []
    return [
        f"The bandwidth of {mbps} Mbps lets through {mbps * BYTES_PER_MBIT:,} bytes of bodies a "
        "second in each direction; more are held back."
    ]
