"""Log searches: a parsed query becomes SQL, and its rows records."""
