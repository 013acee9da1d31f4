"""Log entries: how they are read, ordered and kept before they are segments."""
