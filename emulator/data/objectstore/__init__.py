"""The S3 store: embedded or external, and transfers from and to it."""
