-- Version 3. Targets that somebody paused. The target is scheme, host and port, or amqp: and an exchange; the subscription is
-- empty unless the target is one subscription's own. Without paused_at it was resumed; the row tells whoever follows.
CREATE TABLE paused_targets (
    organization TEXT NOT NULL,
    target TEXT NOT NULL,
    subscription TEXT NOT NULL,
    paused_at BIGINT,
    resumed_at BIGINT,
    changed BIGINT NOT NULL,
    PRIMARY KEY (organization, target, subscription)
);
CREATE INDEX paused_targets_changed ON paused_targets (changed);
