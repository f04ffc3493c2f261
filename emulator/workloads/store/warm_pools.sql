-- What may still change when a training job has ended: its tags, what becomes of its warm pool.
ALTER TABLE training_job ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';  -- value by key, JSON
ALTER TABLE training_job ADD COLUMN warm_pool TEXT;  -- the WarmPool, JSON

CREATE INDEX training_job_warm_pool ON training_job (created) WHERE warm_pool IS NOT NULL;

DROP TRIGGER training_job_end_is_final;

CREATE TRIGGER training_job_end_is_final BEFORE UPDATE ON training_job
WHEN OLD.status IN ('Completed', 'Failed', 'Stopped')
    AND (OLD.status <> NEW.status OR OLD.artifacts IS NOT NEW.artifacts)
BEGIN
    SELECT RAISE(ABORT, 'a training job that has ended does not change');
END;
