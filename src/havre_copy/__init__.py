"""What runs inside a model's own environment: the keeper and its copies (worker processes).

Standard library only, CPython 3.7 and newer; nothing here imports ``havre``. The folder is flat
because ``launch`` loads the package by its location. Its files::

    launch              the file that a model's interpreter is started with

    The keeper          loads the model once, forks copies, watches them, ends them
    ├── keeper          the main loop, and the re-exec when copies must not be forked
    ├── spec            the instance that it is to run
    ├── status          its phase, notes and numbers, for the control socket and the state file
    ├── control         the control socket: a JSON object a line
    ├── operations      what havre can ask for there
    ├── forking         whether copies may be forked: the evidence and the rule
    ├── threads         libraries' threads that a fork can do without, or cannot
    ├── probes          a forked child that answers requests of the keeper's
    ├── checks          requests of havre's, answered by probes
    ├── samples         the artifact's sample request
    ├── copies          the copies as processes: fork, watch, kill, fork again
    ├── deaths          why a copy ended, when to kill it, how soon to fork again
    ├── crash           where a fatal signal came
    ├── memory          how much memory processes use, and how much is left
    ├── doubts          whether each copy must load its own model after all
    ├── probation       whether new copies have lived long enough to be called ready
    └── connections     accepts connections, sends them to the copies, closes them

    A forked child      a copy, or a process that answers checks
    ├── forked_child    what the child runs
    ├── after_fork      undoes what it has inherited
    ├── score_file      imports score.py and loads the model
    ├── serving         a copy: take a request, predict, respond
    ├── wire            the HTTP/1.1 between load balancer and copy
    ├── batch_server    the same for several requests at once
    ├── batching        which requests may be combined, and how a result is shared out
    ├── batch_proof     whether the model returns the same for a batch: tried on the sample
    ├── streams         sys.stdout and sys.stderr as user code finds them
    ├── output          a copy's own output file, with marks that name requests
    ├── logger          our own lines in the log
    └── capture         a share of the requests and responses, in a file

    Shared memory       written by one process, read by others, no locks
    ├── slots           what each copy is doing, and what it has counted
    ├── request_queue   the queue as a copy sees it: claims on connections
    └── recording       the last requests with their responses: a ring per copy

    Bodies              from a request's body to predict(), and from its result to a body
    ├── bodies          by content type
    ├── compression     gzip and deflate
    ├── encoding        JSON
    ├── plain           values of Python and of libraries as plain JSON
    ├── arrays          NumPy's .npy
    ├── tables          Arrow
    ├── tensors         the Open Inference Protocol
    ├── result_tensors  results as tensors
    ├── input_schema    checks JSON against input_schema.json
    └── libraries       imports a library of the environment when it is first needed

    Errors and advice   what a data scientist reads when a model fails
    ├── faults          the exceptions, and how they are described
    ├── causes          an exception and its causes in one line
    ├── advice          what to do about common errors, with the help of:
    ├── versions        a model saved with other versions of libraries
    ├── newer_python    code for a newer Python
    ├── misplaced       files that are looked for outside the artifact
    └── system_packages which system package brings a library
"""
