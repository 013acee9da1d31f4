"""The in-process limit: decode, predict and encode in a loop, in two processes at once.

    python inprocess.py WORKLOAD MODELS SECONDS WORKERS json|orjson

No server can answer with less. Prints one JSON line: requests answered, and the CPU seconds of it.
"""

import json
import multiprocessing
import sys
import time
from pathlib import Path

import orjson
from predictors import predictor

CODECS = {
    "json": (json.loads, lambda value: json.dumps(value, separators=(",", ":")).encode()),
    "orjson": (orjson.loads, orjson.dumps),
}


def main():
    workload, models, seconds, workers, codec = sys.argv[1:]
    together = multiprocessing.Barrier(int(workers))
    counts = multiprocessing.Queue()
    arguments = (workload, Path(models), float(seconds), codec, together, counts)
    processes = [multiprocessing.Process(target=work, args=arguments) for _ in range(int(workers))]
    for process in processes:
        process.start()
    each = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    requests, cpu_s, per_second = (sum(column) for column in zip(*each, strict=True))
    print(json.dumps({"requests": requests, "cpu_s": cpu_s, "per_second": per_second}))


def requests_of(workload, models):
    """Bodies as they come in."""
    samples = json.loads((models / "samples.json").read_text()).get(workload)
    rows = [one["rows"] for one in samples] if samples else [[[1.0, 2.5, 3.5, 4.5]]]
    return [json.dumps({"data": one}, separators=(",", ":")).encode() for one in rows]


def work(workload, models, seconds, codec, together, counts):
    loads, dumps = CODECS[codec]
    predict = predictor(workload, models)
    bodies = requests_of(workload, models)
    together.wait()
    began, cpu_began, requests = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        for body in bodies:
            dumps({"prediction": predict(loads(body)["data"])})
        requests += len(bodies)
    took = time.perf_counter() - began
    counts.put((requests, time.process_time() - cpu_began, requests / took))


if __name__ == "__main__":
    main()
