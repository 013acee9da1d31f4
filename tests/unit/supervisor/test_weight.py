"""The supervisor stays small: nothing of the control plane's libraries comes with it."""

import subprocess
import sys


def test_the_supervisor_imports_the_standard_library_only() -> None:
    code = (
        "import sys, havre.supervisor.__main__, havre.supervisor.client\n"
        "print('\\n'.join(sorted(set(name.partition('.')[0] for name in sys.modules))))"
    )
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    foreign = {name for name in loaded if name not in sys.stdlib_module_names}
    assert foreign - {"havre", "__main__", "__mp_main__"} == set()
    assert {"asyncio", "ssl", "threading", "http"} & set(loaded) <= {"threading"}
