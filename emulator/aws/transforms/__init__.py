"""Batch transform: objects through a model, request by request."""
