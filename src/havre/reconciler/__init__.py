"""Makes what is wanted true: load, plan, apply, record."""
