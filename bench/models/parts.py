"""What decode, predict and encode take, each by itself, in one process.

    python parts.py WORKLOAD MODELS json|orjson

Prints one JSON line: CPU microseconds per request of each.
"""

import json
import sys
import time
from pathlib import Path

from inprocess import CODECS, requests_of
from predictors import predictor

AT_LEAST_S = 1.0


def main():
    workload, models, codec = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    loads, dumps = CODECS[codec]
    predict = predictor(workload, models)
    bodies = requests_of(workload, models)
    rows = [loads(body)["data"] for body in bodies]
    answers = [{"prediction": predict(one)} for one in rows]
    steps = {
        "decode": (lambda body: loads(body)["data"], bodies),
        "predict": (predict, rows),
        "encode": (dumps, answers),
    }
    print(json.dumps({name: microseconds(*step) for name, step in steps.items()}))


def microseconds(step, inputs):
    count, began = 0, time.process_time()
    while time.process_time() - began < AT_LEAST_S:
        for one in inputs:
            step(one)
        count += len(inputs)
    return (time.process_time() - began) / count * 1e6


if __name__ == "__main__":
    main()
