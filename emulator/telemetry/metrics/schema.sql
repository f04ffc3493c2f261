CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Pairs in the order of their names, as JSON: a pair can be looked for as text.
    dimensions TEXT NOT NULL,
    unit TEXT NOT NULL,
    UNIQUE (account, region, namespace, name, dimensions, unit)
);

CREATE INDEX series_of_dimensions ON series (account, region, namespace, dimensions);

CREATE TABLE sample (
    series INTEGER NOT NULL REFERENCES series (id),
    at REAL NOT NULL,
    count REAL NOT NULL,
    total REAL NOT NULL,
    minimum REAL NOT NULL,
    maximum REAL NOT NULL
);

CREATE INDEX sample_in_time ON sample (series, at);

-- What BatchPutMetrics brings; CloudWatch does not show it.
CREATE TABLE trial_metric (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    component TEXT NOT NULL,
    name TEXT NOT NULL,
    at REAL NOT NULL,
    step INTEGER,
    value REAL NOT NULL
);

CREATE INDEX trial_metric_in_time ON trial_metric (account, region, component, name, at);
