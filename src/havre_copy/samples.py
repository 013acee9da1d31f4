"""The sample request that comes with an artifact: what shows whether a model answers at all.

The one place with this rule: the keeper tries it on a forked child, the control plane asks for it.
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

    def told(self):
        """As the control socket tells it."""
        return {
            "body_base64": b64encode(self.body).decode("ascii"),
            "content_type": self.content_type.decode("latin-1"),
        }


def read_sample(artifact, most):
    """A Sample of at most so many bytes, or None: nothing is made up.

    ``test_input.json`` as it is, else the first example that ``input_schema.json`` gives at its
    top, as JSON Schema (``examples``) or OpenAPI (``examples``, ``example``) write them. The
    schemas that oracle-ads writes describe columns and give none.
    """
    body = _read(os.path.join(artifact, FILE), most)
    if not body:
        body = _example(_read(os.path.join(artifact, SCHEMA), most))
    return Sample(body) if body else None


def _read(path, most):
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError:
        return b""
    return content if len(content) <= most else b""


def _example(text):
    """The first example of a schema as JSON, or ``b""``."""
    try:
        schema = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return b""
    if not isinstance(schema, dict):
        return b""
    examples = schema.get("examples")
    if isinstance(examples, dict):  # OpenAPI names them, and puts each into an object
        examples = [named["value"] for named in examples.values() if _has_value(named)]
    if not isinstance(examples, list) or not examples:
        examples = [schema["example"]] if "example" in schema else []
    return json.dumps(examples[0]).encode("ascii") if examples else b""


def _has_value(named):
    return isinstance(named, dict) and "value" in named
