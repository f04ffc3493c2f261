"""Endpoints: what the requests of CreateModel and CreateEndpointConfig ask the engine for."""

from emulator.resources.hosting.deployment import read_deployment

__all__ = ["read_deployment"]
