"""Metrics: gathered by the telemetry process, kept as points, shown as Prometheus wants them."""
