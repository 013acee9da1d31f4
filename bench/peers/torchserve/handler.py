"""What TorchServe runs in each of its workers."""

import asked


class Handler:
    def initialize(self, context):
        self.model = asked.load()

    def handle(self, requests, context):
        return [{"prediction": self.model(one["body"]["data"])} for one in requests]
