"""mosec, a request at a time or with dynamic batching: up to BATCH, waiting 1 ms for more."""

import sys

import asked
from mosec import Server, Worker
from predictors import split

WAIT_MS = 1


class Model(Worker):
    def __init__(self):
        self.predict = asked.load()

    def forward(self, data):
        if asked.BATCH == 1:
            return {"prediction": self.predict(data["data"])}
        requests = [one["data"] for one in data]
        return [{"prediction": one} for one in split(self.predict, requests)]


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", str(asked.PORT), "--log-level", "warning"]
    server = Server()
    server.append_worker(
        Model, num=asked.WORKERS, max_batch_size=asked.BATCH, max_wait_time=WAIT_MS
    )
    server.run()
