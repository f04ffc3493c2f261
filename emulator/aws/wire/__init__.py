"""AWS's wire protocols, read and written by botocore's models."""
