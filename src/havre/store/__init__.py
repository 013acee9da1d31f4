"""Durable state: what is wanted, and the smallest record of what was done."""
