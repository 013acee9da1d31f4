"""Limits that several rooms hold a request to."""

MAX_PREDICTION_BYTES = 10 * 1024 * 1024
"""The largest body of a prediction (OCI: 10 MB)."""
