"""What runs inside a model's own environment: the keeper and its copies.

Standard library only, CPython 3.7 and newer; nothing here imports ``havre``.
"""
