"""Logs and metrics, sent to an OpenTelemetry collector."""
