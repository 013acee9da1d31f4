"""Inference environments: resolve, build, cache, publish."""
