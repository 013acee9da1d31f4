"""The HTTP edge: OCI Data Science's public API, thin."""
