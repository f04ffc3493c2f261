"""Frozen values that every floor of the emulator shares; no effects, no clients."""
