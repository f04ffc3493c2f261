"""What instances leave behind, on its way to S3."""
