"""Durable state: what is desired, and the smallest record of what was done."""
