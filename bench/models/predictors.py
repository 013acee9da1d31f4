"""What every server runs: ``predictor(NAME)(rows)`` is the list of predictions.

The same code and the same pickled models for all of them. Stands alone: havre's artifact carries a
copy of this file.
"""

import pickle
import threading
import time
from functools import partial
from pathlib import Path


def predictor(name, folder):
    """A function of a list of rows, which can be pickled. ``folder`` holds the models."""
    if name == "echo":
        return _echo
    if name == "sleep":
        return _sleep
    model = pickle.loads((Path(folder) / (name + ".pkl")).read_bytes())
    return partial(_predict, model)


def split(predict, requests):
    """Many requests' rows through one call of ``predict``; the predictions of each."""
    joined = predict([row for rows in requests for row in rows])
    answers = []
    at = 0
    for rows in requests:
        answers.append(joined[at : at + len(rows)])
        at += len(rows)
    return answers


def _predict(model, rows):
    return model.predict(rows).tolist()


def _echo(rows):
    return rows


_one_at_a_time = threading.Lock()


def _sleep(rows):
    """Takes as many milliseconds as the first number says.

    One call at a time per process, whatever threads a server has: like a model that keeps its
    core busy, but leaving the cores of a small machine to those who are measured.
    """
    with _one_at_a_time:
        time.sleep(rows[0][0] / 1000)
    return rows
