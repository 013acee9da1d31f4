"""What deployments do, kept and asked for: logs and metrics. No prediction waits for it."""
