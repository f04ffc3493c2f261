"""Objects in S3: the store, what goes into a workload and what comes out."""
