#!/usr/bin/env bash
# Two wheels of one environment bring GCC's OpenMP under names of their own, and not the same one:
# scikit-learn 1.7.2 brings a libgomp without omp_pause_resource_all, xgboost-cpu 3.1.3 one that
# has it. Who lends "the" libgomp of an environment to a third package (LightGBM needs libgomp.so.1
# and brings none), or ends OpenMP's threads before a fork, depends on which of the two it gets:
# only with the second can a process end its pool of threads. Seen with manylinux x86_64 wheels.
# havre takes the one with the most versions of symbols (environments/libraries.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --only-binary :all: scikit-learn==1.7.2 xgboost-cpu==3.1.3
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes, pathlib, sys, sysconfig

site = pathlib.Path(sysconfig.get_paths()["purelib"])
seen = {}
for library in sorted(site.glob("*.libs/libgomp*")):
    has = hasattr(ctypes.CDLL(str(library)), "omp_pause_resource_all")
    seen[library.parent.name] = has
    print(f"{library.parent.name}/{library.name}: omp_pause_resource_all {'is there' if has else 'is absent'}")
expected = {"scikit_learn.libs": False, "xgboost_cpu.libs": True}
found = {name: seen.get(name) for name in expected}
if found != expected:
    sys.exit(f"this has changed: {found}, not {expected}")
PYTHON
