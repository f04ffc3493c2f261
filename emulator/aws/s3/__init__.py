"""The S3 requests of the endpoint, forwarded to the store."""
