"""The sample request that comes with an artifact: it shows whether a model responds at all.

The only place with this rule: the keeper tries it on a forked child, and the control plane gets it
from the keeper.
"""

import json
import os
from base64 import b64encode
from typing import NamedTuple

FILE = "test_input.json"
SCHEMA = "input_schema.json"


class Sample(NamedTuple):
    """A request to try. ``content_type`` is one line without spaces at its ends."""

    body: bytes
    content_type: bytes = b"application/json"

    def to_json(self):
        """The control socket's response."""
        return {
            "body_base64": b64encode(self.body).decode("ascii"),
            "content_type": self.content_type.decode("latin-1"),
        }


def read_sample(artifact, max_bytes):
    """A Sample of at most ``max_bytes``, or None: nothing is invented.

    ``test_input.json`` as it is, else the first example that ``input_schema.json`` gives at its
    top, as JSON Schema (``examples``) or OpenAPI (``examples``, ``example``) write them. The
    schemas that oracle-ads writes describe columns and give none.
    """
    body = _as_sent(_read(os.path.join(artifact, FILE), max_bytes))
    if not body:
        body = _example(_read(os.path.join(artifact, SCHEMA), max_bytes))
    return Sample(body) if body else None


def _read(path, max_bytes):
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError:
        return b""
    return content if len(content) <= max_bytes else b""


def _as_sent(text):
    """The text in UTF-8, as requests have it. Windows editors write UTF-16, or add a BOM."""
    encoding = json.detect_encoding(text)
    if encoding == "utf-8":
        return text
    try:
        return text.decode(encoding).encode("utf-8")
    except UnicodeError:
        return text  # the model's response to it will show what is wrong


def _example(text):
    """The first example of a schema as JSON, or ``b""``."""
    try:
        schema = json.loads(_as_sent(text).decode("utf-8"))
    except (ValueError, RecursionError):
        return b""
    if not isinstance(schema, dict):
        return b""
    examples = schema.get("examples")
    if isinstance(examples, dict):  # OpenAPI names its examples, each an object with a value
        examples = [named["value"] for named in examples.values() if _has_value(named)]
    if not isinstance(examples, list) or not examples:
        examples = [schema["example"]] if "example" in schema else []
    return json.dumps(examples[0]).encode("ascii") if examples else b""


def _has_value(named):
    return isinstance(named, dict) and "value" in named
