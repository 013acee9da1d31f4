"""Models at rest: artifact bytes by digest, safe unpacking, manifests."""
