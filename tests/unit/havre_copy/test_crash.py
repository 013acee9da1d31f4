"""What faulthandler wrote, read again."""

import os

import pytest

from havre_copy.crash import describe_file, describe_text

HEAD = "printed before\nFatal Python error: Segmentation fault\n\n"
FRAMES = (
    '  File "/env/lib/ctypes/__init__.py", line 517 in string_at\n'
    '  File "/a/score.py", line 5 in predict\n'
    '  File "/h/havre_copy/serving.py", line 150 in call\n'
)
THREAD = 'Thread 0x00007f (most recent call first):\n  File "/a/score.py", line 99 in wait\n\n'


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            HEAD + "Current thread 0x00007f12 (most recent call first):\n" + FRAMES,
            "Segmentation fault at score.py line 5 in predict "
            "(/env/lib/ctypes/__init__.py line 517 in string_at)",
        ),
        (
            HEAD + THREAD + "Current thread 0x0 [python] (most recent call first):\n" + FRAMES,
            "Segmentation fault at score.py line 5 in predict "
            "(/env/lib/ctypes/__init__.py line 517 in string_at)",
        ),
        (
            "Fatal Python error: Aborted\n\nCurrent thread 0x0 (most recent call first):\n"
            '  File "/a/score.py", line 2 in <module>\n',
            "Aborted at score.py line 2 in <module>",
        ),
        (
            HEAD + "Current thread 0x0 (most recent call first):\n  <no Python frame>\n",
            "Segmentation fault",
        ),
        (HEAD, "Segmentation fault"),
        ("all is well\n", ""),
        ("", ""),
    ],
)
def test_the_frame_of_the_artifact_is_named(text, where):
    assert describe_text(text, "/a") == where


def test_only_a_plain_file_is_read(tmp_path):
    (tmp_path / "out").write_text(HEAD)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert describe_file(str(tmp_path / "out"), "/a") == "Segmentation fault"
    for name in ("pipe", "link", "nothing", "."):
        assert describe_file(str(tmp_path / name), "/a") == ""
    assert describe_file("", "/a") == ""
