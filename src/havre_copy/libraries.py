"""Libraries of the model's environment, imported when a request first needs one, never before."""

import sys
from importlib import import_module

from havre_copy.causes import describe
from havre_copy.faults import HttpError


def library(name, kind):
    """The module. Raises HttpError (415) if it cannot be imported in the environment.

    ``kind`` is the content type (bytes) that needs it.
    """
    module = sys.modules.get(name)
    if module is not None:
        return module
    try:
        return import_module(name)
    except Exception as error:  # absent, broken, or a file of the user's with that name
        raise HttpError(
            415,
            "UnsupportedMediaType",
            "%s needs %s, which cannot be imported in the model's environment (%s): add it there, "
            "or send JSON" % (kind.decode("ascii"), name, describe(error)),
        ) from None
