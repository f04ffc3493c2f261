-- Requests of asynchronous endpoints that have no result in S3 yet. Times are epoch seconds.
CREATE TABLE async_invocation (
    id       TEXT PRIMARY KEY,
    account  TEXT NOT NULL,
    region   TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    created  REAL NOT NULL,
    expires  REAL NOT NULL,  -- when it has waited too long
    seconds  REAL NOT NULL,  -- in which the model has to answer
    headers  TEXT NOT NULL,  -- those that the container gets, JSON: a list of pairs
    input    TEXT,           -- S3 URI of the body
    body     BLOB,           -- the body itself, where there is no input
    output   TEXT NOT NULL,  -- S3 URI
    failure  TEXT            -- S3 URI
) WITHOUT ROWID;

CREATE INDEX async_invocation_order ON async_invocation (account, region, endpoint, created, id);
