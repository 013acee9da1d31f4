"""Python models in Triton by pytriton: two instances, its dynamic batcher without a delay."""

import asked
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

ROWS_IN_LARGEST_REQUEST = 256


def instance():
    model = asked.load()

    @batch
    def infer(rows):
        answers = np.asarray(model(rows.tolist()), dtype=np.float64)
        return [answers.reshape(len(rows), -1)]

    return infer


if __name__ == "__main__":
    settings = TritonConfig(
        http_address="127.0.0.1",
        http_port=asked.PORT,
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=settings, workspace=str(asked.SCRATCH / "workspace")) as triton:
        triton.bind(
            model_name="bench",
            infer_func=[instance() for _ in range(asked.WORKERS)],
            inputs=[Tensor(name="rows", dtype=np.float64, shape=(-1,))],
            outputs=[Tensor(name="out", dtype=np.float64, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=ROWS_IN_LARGEST_REQUEST,
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
        )
        triton.serve()
