"""The file a model's interpreter is started with: ``python launch.py SPEC.json``.

Our folder must not be importable to user code, and user code must not be importable to us: the
package is loaded by its location, from the standard library only, before the artifact is known.
"""

import sys


def start():
    import os  # the interpreter has loaded it already

    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
    # What the user put on PYTHONPATH comes before the standard library: not for our own imports.
    stated = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    theirs = {os.path.abspath(entry) for entry in stated if entry}
    every = list(sys.path)
    sys.path[:] = [entry for entry in every if os.path.abspath(entry) not in theirs]

    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "havre_copy", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["havre_copy"] = package
    spec.loader.exec_module(package)
    from havre_copy import keeper

    sys.path[:] = every
    sys.exit(keeper.main(os.path.abspath(__file__), sys.argv[1:]))


if __name__ == "__main__":
    start()
