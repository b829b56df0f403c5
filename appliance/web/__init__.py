"""Our HTTP/1.1 listener for hot routes, the proxy to the control app, access rules, and serving of ASGI apps."""
