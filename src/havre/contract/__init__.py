"""The shapes of requests and responses, shared by the API and its clients."""
