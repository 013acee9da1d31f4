"""Run by a model's own interpreter: ``python plainly.py SCORE N…``. Its answers, then a fork's.

A line of JSON: the versions asked for, what each N is answered in this process, and what in a fork.
"""

import importlib.util
import json
import os
import select
import signal
import sys

LIMIT_S = 20


def main():
    score, *requests = sys.argv[1:]
    found = importlib.util.spec_from_file_location("score", score)
    model = importlib.util.module_from_spec(found)
    found.loader.exec_module(model)
    requests = [int(each) for each in requests]
    in_forks = [ask_a_fork(model, each) for each in requests]
    answers = [model.predict(each) for each in requests]
    os.write(1, b"\n" + json.dumps({"answers": answers, "in_forks": in_forks}).encode() + b"\n")
    os._exit(0)


def ask_a_fork(model, request):
    """``{"answer": …}``, or how it came to nothing: ``{"ended": …}``."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            told = {"answer": model.predict(request)}
        except BaseException as error:
            told = {"ended": f"raises {type(error).__name__}"}
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    if not select.select([reader], [], [], LIMIT_S)[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return {"ended": "hangs"}
    told = os.read(reader, 1 << 20)
    status = os.waitpid(pid, 0)[1]
    return json.loads(told.decode()) if told else {"ended": f"dies of {died_of(status)}"}


def died_of(status):
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "an exit"


main()
