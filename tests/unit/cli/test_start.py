"""What every command waits for before it does anything."""

import subprocess
import sys

SLOW = {"alembic", "duckdb", "fastapi", "obstore", "psycopg", "sqlalchemy", "uvicorn"}
"""Half a second and more, for what few commands need: they import it where they use it."""


def test_the_command_starts_without_the_servers_libraries() -> None:
    code = "import sys, havre.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SLOW & set(done.stdout.split()) == set()
