"""What uv says, told to a data scientist."""

import re
from pathlib import Path

import pytest

from havre.environments.faults import explain
from havre.environments.uv import uv_environment

CASES = {
    "conflict": (
        "Using Python 3.8.18 environment at: e\n"
        "error: No solution found when resolving dependencies\n"
        "  cause: Because urllib3==2.6.3 depends on Python>=3.9, we can conclude that "
        "urllib3==2.6.3 cannot be used.\n"
        "         And because you require urllib3==2.6.3, we can conclude that your requirements "
        "are unsatisfiable.\n",
        "the requirements cannot be met together: Because urllib3==2.6.3 depends on Python>=3.9, "
        "we can conclude that urllib3==2.6.3 cannot be used. and because you require "
        "urllib3==2.6.3",
    ),
    "older wording": (
        "  × No solution found when resolving dependencies:\n"
        "  ╰─▶ Because a==1 depends on b<2 and you require b==2, we can conclude that your "
        "requirements are unsatisfiable.\n",
        "the requirements cannot be met together: Because a==1 depends on b<2 and you require b==2",
    ),
    "a build of another index": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because there is no version of torch==2.13.0+cpu and you require "
        "torch==2.13.0+cpu, we can conclude that your requirements are unsatisfiable.\n",
        "the package index has no torch==2.13.0+cpu, a build that its maker keeps on an index of "
        "its own: name that index in UV_INDEX, or a folder that holds it in UV_FIND_LINKS, where "
        "the server is started",
    ),
    "unknown package": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because scikitlearn was not found in the package registry and you require "
        "scikitlearn, we can conclude that your requirements are unsatisfiable.",
        "the package index has no package 'scikitlearn': check its name",
    ),
    "no wheel": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because pyspark==3.5.0 has no usable wheels and you require pyspark==3.5.0, we "
        "can conclude that your requirements are unsatisfiable.\n\n"
        "hint: Wheels are required for `pyspark` because building from source is disabled",
        "pyspark==3.5.0 has no ready-made package (wheel) for Python 3.8 on this machine: choose "
        "a version that has one",
    ),
    "no network": (
        "error: Request failed after 3 retries in 6.1s\n"
        "  cause: Failed to fetch: http://127.0.0.1:9/simple/six/\n"
        "  cause: tcp connect error\n  cause: Connection refused (os error 111)\n",
        "the package index cannot be reached: check the network, or the proxy and index variables "
        "(HTTPS_PROXY, UV_DEFAULT_INDEX). uv says: Request failed after 3 retries in 6.1s Failed "
        "to fetch: http://127.0.0.1:9/simple/six/ tcp connect error Connection refused (os error "
        "111)",
    ),
    "a certificate of a maker that is not known": (
        "error: Request failed after 3 retries in 6.9s\n  cause: Failed to fetch: "
        "`https://pypi.org/simple/six/`\n  cause: error sending request for url "
        "(https://pypi.org/simple/six/)\n  cause: client error (Connect)\n"
        "  cause: invalid peer certificate: UnknownIssuer\n",
        "the package index shows a certificate that is not known here, as a company's proxy does: "
        "put its maker's among the system's certificates, or name a file with it in SSL_CERT_FILE, "
        "where the server is started; UV_SYSTEM_CERTS=0 has uv's own certificates used instead of "
        "the system's. uv says: Request failed after 3 retries in 6.9s Failed to fetch: "
        "`https://pypi.org/simple/six/` error sending request for url "
        "(https://pypi.org/simple/six/) client error (Connect) invalid peer certificate: "
        "UnknownIssuer",
    ),
    "not a requirement": (
        "error: Couldn't parse requirement in `r.txt` at position 0\n  cause: Expected one of `@`",
        "the requirements cannot be read: Couldn't parse requirement in `r.txt` at position 0 "
        "Expected one of `@`",
    ),
    "build": (
        "error: Failed to build `mysqlclient==2.2`\n  cause: gcc: command not found",
        "mysqlclient==2.2 had to be compiled for Python 3.8 and that failed: choose a version "
        "with a ready-made package (wheel), or install the compiler it asks for",
    ),
    "nothing": ("", "uv ended without saying why"),
    "something else": ("error: the moon is full\n", "the moon is full"),
}


@pytest.mark.parametrize("case", CASES)
def test_uvs_words_become_one_sentence(case: str) -> None:
    output, sentence = CASES[case]
    assert explain(output, python="3.8", folder=Path("/")) == sentence


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("error: Failed to install: x.whl\n  cause: No space left on device (os error 28)\n", ""),
        (
            "error: failed to write to file `{}/uv/x`: No space left on device (os error 28)",
            "/uv",
        ),
        ("  cause: failed to copy /a/b to {}/c/d: Disk quota exceeded (os error 122)", "/c"),
    ],
)
def test_a_full_disk_is_named_with_what_is_free_and_needed(
    tmp_path: Path, output: str, place: str
) -> None:
    told = explain(output.format(tmp_path), python="3.8", folder=tmp_path)
    assert f"the disk that holds {tmp_path}{place} is full" in told
    assert re.search(r" MB free, about 1,000 MB needed", told)


def test_uv_keeps_the_users_indexes_and_proxies_and_nothing_that_changes_the_build() -> None:
    kept = uv_environment(
        {
            "HOME": "/home/me",
            "PATH": "/bin",
            "https_proxy": "http://proxy",
            "UV_DEFAULT_INDEX": "https://mirror",
            "PIP_INDEX_URL": "https://other",
            "PIP_EXTRA_INDEX_URL": "https://extra",
            "UV_PYTHON": "3.13",
            "UV_SYSTEM_PYTHON": "1",
            "UV_CONSTRAINT": "c.txt",
            "UV_PYTHON_DOWNLOADS": "automatic",
            "PYTHONPATH": "/evil",
            "VIRTUAL_ENV": "/somewhere",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
    )
    assert kept == {
        "HOME": "/home/me",
        "PATH": "/bin",
        "https_proxy": "http://proxy",
        "UV_DEFAULT_INDEX": "https://mirror",
        "UV_INDEX": "https://extra",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        "PYTHONNOUSERSITE": "1",
        "UV_SYSTEM_CERTS": "1",
    }


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ({"SSL_CERT_FILE": "/etc/own.pem"}, {"SSL_CERT_FILE": "/etc/own.pem"}),
        ({"PIP_CERT": "/etc/own.pem"}, {"SSL_CERT_FILE": "/etc/own.pem"}),
        ({"UV_SYSTEM_CERTS": "0"}, {"UV_SYSTEM_CERTS": "0"}),
        ({"UV_NATIVE_TLS": "false"}, {"UV_NATIVE_TLS": "false"}),
    ],
)
def test_the_systems_certificates_count_unless_others_are_named(
    stated: dict[str, str], kept: dict[str, str]
) -> None:
    found = uv_environment(stated)
    certificates = ("SSL_CERT_FILE", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS")
    assert {name: found[name] for name in certificates if name in found} == kept
