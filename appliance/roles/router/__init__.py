"""The router role: picks a worker for a prompt over HTTP, for programs that send the request themselves."""
