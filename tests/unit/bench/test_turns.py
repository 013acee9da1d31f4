"""Servers asked in turns."""

from bench.turns import Turn, compared


def test_the_first_server_is_compared_with_each_within_a_turn() -> None:
    """The second turn was slow for both: of the medians the ratio would be another."""
    taken = {
        "a": [Turn(900, 100), Turn(90, 1000), Turn(990, 100)],
        "b": [Turn(1000, 50), Turn(100, 500), Turn(900, 50)],
    }
    lines = compared(taken, {"a": "ours", "b": "theirs"}).splitlines()
    assert lines[0] == "| server | req/s | CPU, µs | ours: × its req/s | ours: × its CPU |"
    assert lines[2] == "| ours | 900 | 100 | 1.00 | 1.00 |"
    assert lines[3] == "| theirs | 900 | 50 | 0.90 | 2.00 |"
