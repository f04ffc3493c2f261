-- Training jobs. One row a job; times are epoch seconds.
CREATE TABLE training_job (
    account   TEXT NOT NULL,
    region    TEXT NOT NULL,
    name      TEXT NOT NULL,
    request   TEXT NOT NULL,  -- CreateTrainingJob as it was accepted, JSON
    life      TEXT NOT NULL,  -- the Lifecycle, JSON
    status    TEXT NOT NULL
        CHECK (status IN ('InProgress', 'Stopping', 'Completed', 'Failed', 'Stopped')),
    created   REAL NOT NULL,
    modified  REAL NOT NULL,
    artifacts TEXT,           -- S3ModelArtifacts, once they are in S3
    PRIMARY KEY (account, region, name),
    CHECK (modified >= created)
) WITHOUT ROWID;

-- ARNs are lower-case: two names that differ in case only would share one.
CREATE UNIQUE INDEX training_job_arn ON training_job (account, region, lower(name));

-- One index for each order of ListTrainingJobs; by name there is the primary key.
CREATE INDEX training_job_by_created ON training_job (account, region, created, name);
CREATE INDEX training_job_by_status ON training_job (account, region, status, name);

CREATE INDEX training_job_unfinished ON training_job (created)
    WHERE status IN ('InProgress', 'Stopping');

CREATE TRIGGER training_job_end_is_final BEFORE UPDATE ON training_job
WHEN OLD.status IN ('Completed', 'Failed', 'Stopped')
BEGIN
    SELECT RAISE(ABORT, 'a training job that has ended does not change');
END;
