"""The MCP channel: every workflow is a tool, over streamable HTTP and stdio."""
