-- One index for each order that jobs are listed in. Each has every column that a list is narrowed
-- down by: of a job that is not shown, no row with its long texts is read.
DROP INDEX training_job_by_created;
DROP INDEX training_job_by_status;

CREATE INDEX training_job_by_name
    ON training_job (account, region, name, created, modified, status);
CREATE INDEX training_job_by_created
    ON training_job (account, region, created, name, modified, status);
CREATE INDEX training_job_by_modified
    ON training_job (account, region, modified, name, created, status);
CREATE INDEX training_job_by_status
    ON training_job (account, region, status, name, created, modified);
