"""``/mcp``: the Model Context Protocol server, on the official SDK over streamable HTTP."""
