"""Who calls: the owner of a home and the keys registered with it."""
