"""Batches under load, through the load balancer: everybody gets their own answer."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
from tests.e2e.artifacts import scored

SCORE = """
def load_model():
    return 2

def predict(data, model=load_model()):
    print("rows", len(data["data"]))
    return {"prediction": [[model * value for value in row] for row in data["data"]]}
"""
SAMPLE = json.dumps({"data": [[1, 2], [3, 4]]})
AT_ONCE = 16
REQUESTS = 1500
BAD_EVERY = 50


def test_everybody_gets_their_own_answer_and_a_bad_request_fails_alone(server, oracle):
    archive = scored(SCORE, **{"test_input.json": SAMPLE})
    variables = {"MODEL_BATCH_SIZE": "32", "MODEL_BATCH_DELAY_MS": "2"}
    created = oracle.create(oracle.save(archive), variables=variables)
    told = " ".join(oracle.log_lines(created.id))
    assert "answered up to 32 at once: tried on it, with the same answers" in told
    deployment_id = created.resources[0].identifier
    logs = list(server.home.glob("logs/instances/*.log"))
    with httpx.Client(
        base_url=server.url,
        timeout=60,
        trust_env=False,
        limits=httpx.Limits(max_connections=AT_ONCE),
    ) as client:

        def ask(number):
            rows = [[number, row] for row in range(1 + number % 3)]
            if number % BAD_EVERY == 0:
                rows[0] = None
            answer = client.post(f"/{deployment_id}/predict", json={"data": rows})
            if number % BAD_EVERY == 0:
                assert answer.status_code == 500
                assert "TypeError" in answer.json()["message"]
            else:
                assert answer.status_code == 200, answer.text
                wanted = [[2 * number, 2 * row] for row in range(1 + number % 3)]
                assert answer.json() == {"prediction": wanted}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(ask, range(REQUESTS)))
    (told,) = [log for log in logs if "requests like the sample" in log.read_text()]
    calls = [line for line in told.read_text().splitlines() if line.startswith("rows ")]
    assert len(calls) < REQUESTS
    oracle.delete(deployment_id)
