"""LitServe: two inference workers on the CPU, no batching."""

import asked
import litserve


class Model(litserve.LitAPI):
    def setup(self, device):
        self.model = asked.load()

    def predict(self, request):
        return {"prediction": self.model(request["data"])}


if __name__ == "__main__":
    server = litserve.LitServer(Model(), accelerator="cpu", workers_per_device=asked.WORKERS)
    server.run(host="127.0.0.1", port=asked.PORT, generate_client_file=False, log_level="warning")
