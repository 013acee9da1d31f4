"""The parent of every process of a home: start, watch, restart, stop, adopt."""
