"""Objects in S3: the store itself, what goes into a job and what comes out."""
