"""Logs of Nexus: formats, a line for each call, the audit log; and no secret in any of them."""
