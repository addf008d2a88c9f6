-- Version 2. What is known of subscriptions that a file declares: which are disabled by the system. The fingerprint is that
-- of the target's URL: another URL is another row. Without a reason it is enabled again; the row tells whoever follows.
CREATE TABLE filed_disabled (
    organization TEXT NOT NULL,
    id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    reason TEXT,
    disabled_at BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, id, fingerprint)
);
CREATE INDEX filed_disabled_changed ON filed_disabled (changed);
CREATE INDEX subscriptions_deleted ON subscriptions (deleted_at);
