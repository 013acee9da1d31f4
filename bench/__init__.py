"""The benchmark suite: havre and its peers on the same work.

See bench/README.md.
"""
