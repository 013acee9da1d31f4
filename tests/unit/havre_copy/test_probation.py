"""When the copies of a new instance have lived for long enough."""

from havre_copy.probation import Probation


def over_at(observations: list[tuple[float, int, int]], *, copies: int = 2, needed_s: float = 1.5):
    """The time of the look, ``(now, up, deaths)``, at which it is over; None: not at all."""
    probation = Probation(copies, needed_s)
    for now, up, deaths in observations:
        wakes = probation.next_wake()
        assert wakes is None or wakes <= now or not probation.is_over
        probation.observe(up=up, deaths=deaths, now=now)
        if probation.is_over:
            assert probation.next_wake() is None
            return now
    return None


def test_all_copies_must_live_at_once_for_so_long() -> None:
    assert (
        over_at([(0, 0, 0), (1, 1, 0), (9, 1, 0), (10, 2, 0), (11.4, 2, 0), (11.5, 2, 0)]) == 11.5
    )


def test_a_death_restarts_it_even_if_the_copy_is_replaced_already() -> None:
    assert over_at([(0, 2, 0), (1, 2, 1), (2, 2, 1), (2.5, 2, 1)]) == 2.5
    assert over_at([(0, 2, 0), (1, 1, 1), (2, 2, 1), (3.4, 2, 1), (3.5, 2, 1)]) == 3.5
    assert over_at([(second, 2, second) for second in range(60)]) is None


def test_without_a_needed_time_one_copy_is_enough_at_once() -> None:
    assert over_at([(0, 0, 3), (1, 1, 3)], needed_s=0) == 1


def test_its_next_wake_is_when_it_may_be_over() -> None:
    probation = Probation(1, 1.5)
    assert probation.next_wake() is None
    probation.observe(up=1, deaths=0, now=7)
    assert probation.next_wake() == 8.5


def test_once_it_is_over_it_stays_over() -> None:
    probation = Probation(2, 1.5, is_over=True)
    probation.observe(up=0, deaths=5, now=1)
    assert probation.is_over
