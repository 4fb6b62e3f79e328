"""Traces of Nexus, for OpenTelemetry."""
