"""What users ask for: one package a resource, which turns requests into workloads."""

from emulator.resources.processing import PROCESSING
from emulator.resources.training import TRAINING

KINDS = (TRAINING, PROCESSING)
"""All that run to their end."""
