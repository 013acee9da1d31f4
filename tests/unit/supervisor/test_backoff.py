from havre.supervisor.backoff import HEALTHY_AFTER_S, Backoff


def delays(*uptimes: float) -> list[float]:
    backoff, seen = Backoff(), []
    for uptime in uptimes:
        backoff = backoff.after_death(uptime)
        seen.append(backoff.delay_s)
    return seen


def test_the_first_death_costs_no_wait_and_the_next_ones_double_up_to_ten_seconds() -> None:
    waits = delays(*[0.0] * 10)
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_crash_after_a_healthy_life_starts_the_count_anew() -> None:
    assert delays(0, 0, 0, HEALTHY_AFTER_S, 0) == [0.0, 0.1, 0.2, 0.0, 0.1]


def test_years_of_quick_deaths_keep_the_longest_wait() -> None:
    assert Backoff(10_000_000).after_death(0).delay_s == 10.0
