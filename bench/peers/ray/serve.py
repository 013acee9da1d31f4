"""Ray Serve: one local node, two replicas of a deployment behind its HTTP proxy."""

import asked
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(
    num_replicas=asked.WORKERS, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=8
)
class Bench:
    def __init__(self):
        self.model = asked.load()

    async def __call__(self, request: Request):
        return {"prediction": self.model((await request.json())["data"])}


if __name__ == "__main__":
    ray.init(include_dashboard=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": asked.PORT})
    serve.run(Bench.bind(), blocking=True)
