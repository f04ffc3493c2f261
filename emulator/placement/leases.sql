-- Which job holds which GPU, and which held it before.
CREATE TABLE gpu_lease (
    id INTEGER PRIMARY KEY,
    gpu TEXT NOT NULL,      -- UUID
    job TEXT NOT NULL,      -- ARN
    job_name TEXT NOT NULL,
    hosts TEXT NOT NULL,    -- algo-1, or algo-1,algo-2 when instances of the job share the GPU
    opened REAL NOT NULL,   -- epoch seconds
    closed REAL
);

-- No GPU is ever given twice, whatever a program does wrong.
CREATE UNIQUE INDEX gpu_lease_open ON gpu_lease (gpu) WHERE closed IS NULL;
CREATE INDEX gpu_lease_job ON gpu_lease (job);
