"""What users ask for: one package a resource, which turns requests into workloads."""

from emulator.resources.training import TRAINING

KINDS = (TRAINING,)
"""All that run to their end."""
