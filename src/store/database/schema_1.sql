-- Version 1. Times are microseconds since 1970. On SQLite BYTEA is written BLOB.

-- One row. Every write raises it first, so that writers wait for each other and nobody sees n + 1 before n.
CREATE TABLE change_counter (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    value BIGINT NOT NULL
);
INSERT INTO change_counter (one, value) VALUES (1, 0);

-- A deleted subscription stays as a tombstone: what it was is emptied, that it was there is not.
CREATE TABLE subscriptions (
    id TEXT NOT NULL PRIMARY KEY,
    organization TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('api', 'contractfit', 'idexa')),
    singular TEXT,
    document TEXT NOT NULL,
    secrets BYTEA,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    disabled_reason TEXT,
    deleted_at BIGINT,
    sequence BIGINT NOT NULL UNIQUE,
    changed BIGINT NOT NULL,
    CONSTRAINT once_per_organization UNIQUE (organization, singular),
    CONSTRAINT tombstones_are_empty CHECK (
        deleted_at IS NULL OR (document = '' AND secrets IS NULL AND singular IS NULL)
    )
);
CREATE INDEX subscriptions_changed ON subscriptions (changed);
CREATE INDEX subscriptions_listed ON subscriptions (organization, sequence);

-- Keys of the API, by their hash. Without an organization it is the operator's.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    organization TEXT,
    name TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    ending TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    sequence BIGINT NOT NULL UNIQUE
);
