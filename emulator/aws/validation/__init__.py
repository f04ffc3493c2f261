"""Requests checked against botocore's models, in the service's words."""
