"""The benchmark suite: havre and its peers on the same work.

See docs/explanation/performance.md.
"""
