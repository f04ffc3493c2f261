"""Batch transform: what a CreateTransformJob request asks for."""

from emulator.resources.transform.job import deployment_sources, transform_spec

__all__ = ["deployment_sources", "transform_spec"]
