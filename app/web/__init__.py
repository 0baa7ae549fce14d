"""HTTP: the receiver, the API, the WebSocket, health and metrics."""
