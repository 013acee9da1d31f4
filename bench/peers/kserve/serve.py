"""KServe's model server with its first protocol, two workers, no access log.

It kills workers that do not answer within 5 s, also while they still import; on a busy machine they
never start. They get a minute here, which changes nothing once they serve. And it would listen on
every address of the machine.
"""

import asked
import uvicorn
from kserve import Model, ModelServer
from kserve.protocol.rest.multiprocess.server import RESTServerProcess

RESTServerProcess.is_alive.__defaults__ = (60,)
bind_socket = uvicorn.Config.bind_socket


def bind_to_loopback(config):
    config.host = "127.0.0.1"
    return bind_socket(config)


uvicorn.Config.bind_socket = bind_to_loopback


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
