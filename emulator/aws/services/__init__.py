"""One function an AWS operation, grouped by service."""
