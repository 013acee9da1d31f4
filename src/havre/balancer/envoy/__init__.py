"""The load balancer Envoy: routes become its resources, published through files and confirmed."""
