"""CloudWatch Logs streams kept as append-only files."""
