"""Batches at real copies: what is answered together, and what one bad request costs the others."""

import base64
import io
import json
import time

import numpy as np
import pytest
from tests.support.copy_instance import (
    AT_GATE,
    Instance,
    all_at_once,
    in_background,
    wait_until,
)

SCORE = (
    AT_GATE
    + """
import os, signal, sys, time

def predict(data):
    if isinstance(data, str):
        wait_at(data)
        return "opened"
    rows = data["data"] if isinstance(data, dict) else data
    print("rows", len(rows), type(rows).__name__, flush=True)
    if any(row[0] == 666 for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)
    if any(row[0] == 999 for row in rows):
        time.sleep(60)
    sums = [float(sum(row)) for row in rows]
    if type(rows).__name__ == "ndarray":
        import numpy
        return numpy.array(sums)
    return {"prediction": sums} if isinstance(data, dict) else sums
"""
)
IMPORTS_NUMPY = "import numpy\n" + SCORE
SAMPLE = json.dumps([[1, 2.5], [3, 4], [5, 6]])
SIZE = {"MODEL_BATCH_SIZE": "16"}


def files(sample: str = SAMPLE, score: str = SCORE) -> dict[str, str]:
    return {"score.py": score, "test_input.json": sample}


def rows_of_calls(instance: Instance) -> list[int]:
    return [int(line.split()[1]) for line in instance.log.splitlines() if line.startswith("rows ")]


def started(launch, files, **spec):
    environment = {**SIZE, **spec.pop("environment", {})}
    return launch(files, copies=1, environment=environment, **spec).ready()


def test_what_waits_is_answered_by_one_call(launch):
    instance = started(launch, files())
    assert "are answered up to 16 at once" in " ".join(instance.ask("status")["notes"])
    before = len(rows_of_calls(instance))
    instance.ask("record", most=100)
    asks = [lambda n=n: instance.post([[n, 1], [n, 2]][: 1 + n % 2]) for n in range(40)]
    responses = all_at_once(instance, asks)
    for n, response in enumerate(responses):
        assert response.json == [n + 1, n + 2][: 1 + n % 2]
        assert response.headers["x-havre-copy"].startswith("testinstance/0/r1/")
    calls = rows_of_calls(instance)[before:]
    assert sum(calls) == 60
    assert len(calls) < 10
    # A copy counts once it has answered.
    wait_until(lambda: (now := instance.ask("status"))["answered"] == 41 and not now["busy"])
    status = instance.ask("status")
    assert (status["failed"], status["restarts"], status["busy"]) == (0, 0, 0)
    assert sum(status["latency"]["counts"]) == 41
    recorded = {
        base64.b64decode(record["body_base64"]): json.loads(
            base64.b64decode(record["answer_base64"])
        )
        for record in instance.ask("recorded")["recorded"]
    }
    assert len(recorded) == 41
    for body, response in recorded.items():
        data = json.loads(body)
        assert response == ("opened" if data == "gate" else [sum(row) for row in data])


def test_a_bad_request_fails_alone(launch):
    instance = started(launch, files())
    asks = [lambda n=n: instance.post([["x", None]] if n == 5 else [[n, 1]]) for n in range(12)]
    responses = all_at_once(instance, asks)
    for n, response in enumerate(responses):
        if n == 5:
            assert response.status == 500
            assert response.json["code"] == "InternalServerError"
        else:
            assert response.json == [n + 1]
    assert instance.ask("status")["failed"] == 1
    assert instance.log.count("raised") == 1  # not for the batch


def test_what_is_not_like_the_others_is_answered_in_its_own_way(launch):
    instance = started(launch, files(score=IMPORTS_NUMPY))
    held = io.BytesIO()
    np.save(held, np.array([[1.0, 2.0]]))
    binary = {"content-type": "application/x-npy"}
    stream = "/ocid1.test/predictWithResponseStream"
    before = len(rows_of_calls(instance))
    asks = [
        lambda: instance.post([[1, 2]]),
        lambda: instance.post(held.getvalue(), headers=binary),
        lambda: instance.post({"data": [[1, 2]]}),  # not like the sample
        lambda: instance.post([[1, 2, 3]]),  # another width
        lambda: instance.post(b"{"),
        lambda: instance.post([[1, 2]], path=stream),
        lambda: instance.post(held.getvalue(), headers=binary),
        lambda: instance.post([[1, 2]]),
    ]
    one, array, other, wide, broken, streamed, array_too, two = all_at_once(instance, asks)
    assert one.json == two.json == [3]
    assert other.json == {"prediction": [3]}
    assert wide.json == [6]
    assert (broken.status, streamed.status) == (400, 409)
    for response in (array, array_too):
        assert response.status == 200, (response, instance.log)
        assert np.load(io.BytesIO(response.body)).tolist() == [3]
    calls = rows_of_calls(instance)[before:]
    assert sum(calls) == 7
    assert len(calls) < 7


@pytest.mark.parametrize(("row", "cause"), [(666, "SIGKILL"), (999, "took over 6 s")])
def test_a_copy_that_is_ended_in_a_batch_costs_the_batch_and_no_more(launch, row, cause):
    # The limit is also that of the request which holds the others up until all of them are there.
    instance = started(launch, files(), predict_timeout_s=6)
    asks = [lambda n=n: instance.post([[row if n == 3 else n, 1]]) for n in range(30)]
    responses = all_at_once(instance, asks)
    failed = [response for response in responses if isinstance(response, Exception)]
    assert 1 <= len(failed) <= 16
    for n, response in enumerate(responses):
        assert isinstance(response, Exception) or response.json == [n + 1]
    assert isinstance(responses[3], Exception)
    status = instance.ask("status")
    assert status["failed"] == len(failed)
    assert cause in instance.log
    assert instance.post([[1, 2]]).json == [3]


@pytest.mark.parametrize(
    ("sample", "score", "reason"),
    [
        (None, SCORE, "no sample request"),
        ('"text"', "def predict(data): return data", "holds no rows"),
        (SAMPLE, "def predict(data): return {'n': len(data)}", "a dict"),
        (
            SAMPLE,
            "def predict(data): return [len(data)] * len(data)",
            "when requests are batched",
        ),
        (
            SAMPLE,
            "import random\ndef predict(data): return [random.random()] * len(data)",
            "different results",
        ),
        (
            SAMPLE,
            "def predict(data): return [1 / (4 > len(data))] * len(data)",
            "raised on several",
        ),
        (SAMPLE, "def predict(data): yield from data", "generator"),
        (SAMPLE, "import os\ndef predict(data): os.abort()", "died"),
    ],
)
def test_what_is_not_proved_is_not_batched(launch, sample, score, reason):
    artifact = {"score.py": score} if sample is None else files(sample, score)
    instance = started(launch, artifact)
    (note,) = [note for note in instance.ask("status")["notes"] if "one by one" in note]
    assert reason in note
    assert note in instance.log


def test_a_model_per_copy_is_proved_too(launch):
    score = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True)"
    instance = started(launch, files(score=score + ".start()\n" + SCORE))
    status = instance.ask("status")
    assert status["mode"] == "per_copy"
    assert "up to 16 at once" in " ".join(status["notes"])
    responses = all_at_once(instance, [lambda n=n: instance.post([[n, 1]]) for n in range(12)])
    assert [response.json for response in responses] == [[n + 1] for n in range(12)]


def test_a_delay_gathers_what_is_not_there_yet(launch):
    instance = started(launch, files(), environment={"MODEL_BATCH_DELAY_MS": "1000"})

    def gathers() -> bool:
        before = len(rows_of_calls(instance))
        first = in_background(lambda: instance.post([[1, 1]]))
        time.sleep(0.2)  # a copy that does not wait would have answered it by now
        second = in_background(lambda: instance.post([[2, 1]]))
        assert first().json == [2]
        assert second().json == [3]
        return rows_of_calls(instance)[before:] == [2]

    # Where this machine delays the second request for longer they are answered one by one.
    wait_until(gathers, "one call for both")


def test_each_request_of_a_batch_is_captured_by_itself(launch):
    instance = started(launch, files(), output="output")
    instance.ask("capture", percent=100)
    asks = [lambda n=n: instance.post([[n, 1]]) for n in range(10)]
    responses = all_at_once(instance, asks)
    assert [response.json for response in responses] == [[n + 1] for n in range(10)]

    def captured() -> list[dict]:
        paths = (instance.folder / "output").glob("*.captured")
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]

    wait_until(lambda: len(captured()) == 11)  # the one that had closed the gate is another
    pairs = {line["request"]["text"]: line["response"]["text"] for line in captured()}
    for n in range(10):
        assert json.loads(pairs[json.dumps([[n, 1]])]) == [n + 1]
