-- Workloads of every kind in one table: training jobs were the first. Times are epoch seconds.
CREATE TABLE workload (
    kind      TEXT NOT NULL,  -- training-job, processing-job: as in ARNs
    account   TEXT NOT NULL,
    region    TEXT NOT NULL,
    name      TEXT NOT NULL,
    request   TEXT NOT NULL,  -- the Create request as it was accepted, JSON
    life      TEXT NOT NULL,  -- the Lifecycle, JSON
    status    TEXT NOT NULL
        CHECK (status IN ('InProgress', 'Stopping', 'Completed', 'Failed', 'Stopped')),
    created   REAL NOT NULL,
    modified  REAL NOT NULL,
    artifacts TEXT,           -- what Describe names as the outcome, once it is in S3
    tags      TEXT NOT NULL DEFAULT '{}',  -- value by key, JSON
    warm_pool TEXT,           -- the WarmPool, JSON
    runtime   TEXT,           -- the name of the one it was accepted for; NULL in jobs of old versions
    runtime_reason TEXT,      -- why that one, for the log
    run       TEXT,           -- the RunRecord of the attempt that runs, JSON
    PRIMARY KEY (kind, account, region, name),
    CHECK (modified >= created)
) WITHOUT ROWID;

-- Phases and times are called alike for all kinds now. In a JSON text a quotation mark is escaped:
-- no message is mistaken for a member.
INSERT INTO workload
    SELECT 'training-job', account, region, name, request,
        replace(replace(replace(life,
            '"status": "Training"', '"status": "Running"'),
            '"training_started": ', '"started": '),
            '"training_ended": ', '"ended": '),
        status, created, modified, artifacts, tags, warm_pool, runtime, runtime_reason, NULL
    FROM training_job;
DROP TABLE training_job;

-- ARNs are lower-case: two names that differ in case only would share one.
CREATE UNIQUE INDEX workload_arn ON workload (kind, account, region, lower(name));

-- One index for each order that jobs are listed in. Each has every column that a list is narrowed
-- down by: of a job that is not shown, no row with its long texts is read.
CREATE INDEX workload_by_name ON workload (kind, account, region, name, created, modified, status);
CREATE INDEX workload_by_created
    ON workload (kind, account, region, created, name, modified, status);
CREATE INDEX workload_by_modified
    ON workload (kind, account, region, modified, name, created, status);
CREATE INDEX workload_by_status
    ON workload (kind, account, region, status, name, created, modified);

CREATE INDEX workload_unfinished ON workload (created) WHERE status IN ('InProgress', 'Stopping');
CREATE INDEX workload_warm_pool ON workload (created) WHERE warm_pool IS NOT NULL;

-- What may still change when a workload has ended: its tags, what becomes of its warm pool.
CREATE TRIGGER workload_end_is_final BEFORE UPDATE ON workload
WHEN OLD.status IN ('Completed', 'Failed', 'Stopped')
    AND (OLD.status <> NEW.status OR OLD.artifacts IS NOT NEW.artifacts)
BEGIN
    SELECT RAISE(ABORT, 'a workload that has ended does not change');
END;
