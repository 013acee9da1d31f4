"""KServe's model server with its first protocol, two workers, no access log."""

import asked
from kserve import Model, ModelServer


class Bench(Model):
    def __init__(self):
        super().__init__("bench")
        self.model = None

    def load(self):
        self.model = asked.load()
        self.ready = True
        return True

    async def predict(self, payload, headers=None, response_headers=None):
        return {"predictions": self.model(payload["instances"])}


if __name__ == "__main__":
    model = Bench()
    model.load()
    ModelServer(
        http_port=asked.PORT,
        workers=asked.WORKERS,
        enable_grpc=False,
        access_log_format=None,
    ).start([model])
