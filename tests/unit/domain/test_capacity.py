import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.capacity import Demand, Machine, admit, demand_of, gpus_of, total
from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import LimitExceeded
from havre.domain.shape import GIB, choose_shape

LAPTOP = Machine(threads=2, memory_bytes=8 * GIB)


def spec(shape="VM.Standard.E4.Flex", *, instances=1, **variables) -> DeploymentSpec:
    return DeploymentSpec(
        model_id="m",
        artifact_digest="d",
        shape=choose_shape(shape, ocpus=1, memory_gb=16),
        instance_count=instances,
        environment_variables=variables,
    )


def refusal(asked, **options) -> str:
    options = {
        "used": Demand(),
        "machine": LAPTOP,
        "strict": False,
        "overcommit_factor": 64.0,
        **options,
    }
    with pytest.raises(LimitExceeded) as caught:
        admit(asked, **options)
    return caught.value.message


def test_a_deployment_asks_for_all_its_instances():
    assert demand_of(spec(instances=3)) == Demand(
        copies=6, threads=6.0, memory_bytes=48 * GIB, gpus=0
    )
    assert demand_of(spec(instances=2, WEB_CONCURRENCY="5")).copies == 10
    assert demand_of(spec("VM.GPU.A10.2", instances=2)).gpus == 4


@pytest.mark.parametrize(
    ("name", "gpus"),
    [("VM.GPU2.1", 1), ("VM.GPU3.4", 4), ("BM.GPU.A100-V2.8", 8), ("VM.Standard2.16", 0)],
)
def test_gpus_of_a_shape(name, gpus):
    assert gpus_of(name) == gpus


def test_fifty_idle_deployments_fit_a_laptop_that_is_smaller_than_their_shape():
    asked = demand_of(spec())
    used = total([asked] * 49)
    admit(asked, used=used, machine=LAPTOP, strict=False, overcommit_factor=64.0)


def test_beyond_the_factor_the_refusal_names_asked_used_and_there():
    message = refusal(Demand(copies=2), used=Demand(copies=127))
    assert "copies: 2 asked, 127 used, this machine takes 128 (2 hardware threads x 64)" in message
    assert "WEB_CONCURRENCY" in message


def test_strict_tells_of_threads_and_memory_at_once():
    message = refusal(demand_of(spec(instances=2)), used=demand_of(spec()), strict=True)
    assert "threads (2 per OCPU): 4 asked, 2 used, this machine has 2" in message
    assert "memory: 32.0 GB asked, 16.0 GB used, this machine has 8.0 GB" in message


def test_strict_does_not_count_copies():
    small = Demand(copies=10**6, threads=2, memory_bytes=GIB)
    admit(small, used=Demand(), machine=LAPTOP, strict=True, overcommit_factor=1.0)


def test_a_gpu_is_not_shared():
    machine = Machine(threads=8, memory_bytes=GIB, gpus=1)
    admit(Demand(gpus=1), used=Demand(), machine=machine, strict=False, overcommit_factor=1.0)
    assert "1 asked, 1 used" in refusal(Demand(gpus=1), used=Demand(gpus=1), machine=machine)


def test_a_machine_without_free_gpus_takes_what_asks_for_none():
    used = Demand(gpus=4)
    admit(Demand(copies=1), used=used, machine=LAPTOP, strict=False, overcommit_factor=1.0)


DEMANDS = st.builds(
    Demand,
    copies=st.integers(0, 300),
    threads=st.integers(0, 300).map(float),
    memory_bytes=st.integers(0, 10**12),
    gpus=st.integers(0, 8),
)


@given(asked=DEMANDS, more=DEMANDS, used=DEMANDS, strict=st.booleans())
def test_who_asks_for_less_is_not_refused_where_more_was_admitted(asked, more, used, strict):
    machine = Machine(threads=64, memory_bytes=10**12, gpus=4)
    options = {"used": used, "machine": machine, "strict": strict, "overcommit_factor": 4.0}
    try:
        admit(asked + more, **options)
    except LimitExceeded:
        return
    admit(asked, **options)


@given(one=DEMANDS, other=DEMANDS)
def test_exceeding_is_about_any_figure(one, other):
    assert not one.exceeds(one)
    assert not one.exceeds(one + other)
    assert (one + other).exceeds(one) == (other != Demand())
