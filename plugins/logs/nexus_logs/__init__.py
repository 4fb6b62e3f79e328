"""Log formats, a log record for each call, and the audit log of Nexus, without secrets."""
