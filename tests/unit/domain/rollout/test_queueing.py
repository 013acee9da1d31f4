import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.rollout.queueing import max_in_flight

DEFAULTS = {"per_copy": 8, "queue_limit": 128, "wait_s": 10.0}


@pytest.mark.parametrize(
    ("copies", "mean_s", "most"),
    [
        (2, 0.0, 128),  # nothing is known yet
        (2, 0.001, 128),
        (2, 0.1, 128),  # 200 would be served in 10 s
        (2, 0.2, 64),  # 100 would
        (2, 1.0, 16),  # 20 would
        (2, 50.0, 16),  # never fewer than eight for each copy
        (64, 0.001, 512),
        (64, 5.0, 512),
    ],
)
def test_the_bound_follows_the_time_a_prediction_takes(
    copies: int, mean_s: float, most: int
) -> None:
    assert max_in_flight(copies=copies, mean_s=mean_s, **DEFAULTS) == most


@given(copies=st.integers(1, 256), mean_s=st.floats(1e-6, 60))
def test_what_is_beyond_the_copies_own_share_is_served_in_time(copies: int, mean_s: float) -> None:
    most = max_in_flight(copies=copies, mean_s=mean_s, **DEFAULTS)
    assert most >= 8 * copies
    assert most <= max(8 * copies, 128)
    assert most == 8 * copies or most * mean_s / copies <= 10.0 + 1e-9


@given(copies=st.integers(1, 64), slow=st.floats(1e-4, 60), faster=st.floats(0.01, 1))
def test_a_faster_model_holds_no_fewer(copies: int, slow: float, faster: float) -> None:
    assert max_in_flight(copies=copies, mean_s=slow * faster, **DEFAULTS) >= max_in_flight(
        copies=copies, mean_s=slow, **DEFAULTS
    )
