"""An exception and its causes in one line: an exception that wraps another hides what to fix."""

MAX_TEXT_LENGTH = 500
MAX_CAUSES = 3


def describe(error):
    """``ValueError: text``, on one line, bounded."""
    return shortened(_described(error), MAX_TEXT_LENGTH)


def describe_whole(error):
    """The same with its causes, where they say something new; bounded likewise."""
    texts = [_described(error)]
    for how, cause in causes(error):
        described = _described(cause)
        if not any(_repeats(text, described) for text in texts):
            texts.append("%s %s" % (how, described))
        if len(texts) > MAX_CAUSES:
            break
    # The innermost cause says most: none is cut because another one is long.
    share = max(MAX_TEXT_LENGTH // len(texts) - 2, 80)
    spare = sum(max(0, share - len(text)) for text in texts)
    return ", ".join(shortened(text, share + spare) for text in texts)


def chain(error):
    """It, and all that led to it."""
    return [error] + [cause for _, cause in causes(error)]


def causes(error):
    """``[(how, exception), …]``, the nearest first: those that ``raise … from`` names, those that
    were being handled, and the first of a group.
    """
    chained, visited = [], {id(error)}
    while len(chained) < 10:
        group = getattr(error, "exceptions", None)
        if error.__cause__ is not None:
            how, error = "caused by", error.__cause__
        elif error.__context__ is not None and not error.__suppress_context__:
            how, error = "while handling", error.__context__
        elif isinstance(group, (tuple, list)) and group and isinstance(group[0], BaseException):
            how, error = "the first of them:", group[0]
        else:
            break
        if id(error) in visited:
            break
        visited.add(id(error))
        chained.append((how, error))
    return chained


def text_of(error):
    """On one line; empty for one that cannot be printed."""
    try:
        return " ".join(str(error).split())
    except Exception:  # its own __str__ may raise anything
        return ""


def shortened(text, limit):
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _described(error):
    text, name = text_of(error), type(error).__name__
    return "%s: %s" % (name, text) if text else name


def _repeats(outer, described):
    """Whether the outer exception's text has the other's already, as in ``raise X(str(error))``."""
    text = described.partition(": ")[2] or described
    return text in outer
