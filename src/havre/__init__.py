"""havre: self-hosted model deployment that speaks the OCI Data Science API."""

__version__ = "0.1.0"
