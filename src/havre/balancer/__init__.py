"""Who gets traffic: routes to Envoy resources, published and confirmed."""
