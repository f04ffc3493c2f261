-- What hosting keeps. Times are epoch seconds.
CREATE TABLE hosting (
    kind      TEXT NOT NULL,  -- as in ARNs: model, endpoint-config, endpoint, inference-component
    account   TEXT NOT NULL,
    region    TEXT NOT NULL,
    name      TEXT NOT NULL,
    created   REAL NOT NULL,
    modified  REAL NOT NULL,
    status    TEXT,           -- EndpointStatus, InferenceComponentStatus; NULL where there is none
    request   TEXT NOT NULL,  -- the Create request as it was accepted, JSON
    state     TEXT NOT NULL DEFAULT '{}',  -- what became of it, JSON
    tags      TEXT NOT NULL DEFAULT '{}',  -- value by key, JSON
    PRIMARY KEY (kind, account, region, name)
) WITHOUT ROWID;

CREATE UNIQUE INDEX hosting_arn ON hosting (kind, account, region, lower(name));

-- Instances that were started and have not been removed, for the next emulator.
CREATE TABLE endpoint_instance (
    id         TEXT PRIMARY KEY,  -- i-<17 hex>
    account    TEXT NOT NULL,
    region     TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    deployment INTEGER NOT NULL,  -- counted through the life of the endpoint
    variant    TEXT NOT NULL,
    runtime    TEXT NOT NULL,     -- the name of the runtime that has it
    began      REAL NOT NULL,
    port       INTEGER NOT NULL,  -- of its first container
    serves     INTEGER NOT NULL DEFAULT 0  -- whether it has answered a ping
) WITHOUT ROWID;
