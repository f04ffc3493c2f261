"""Directories kept in S3 while instances run, and restored before they start."""
