//! The tables, and how they come to be: numbered steps, taken under a lock, in one transaction. A schema that is newer
//! than this version of docrelay is refused, because nobody here knows what it means.

use sqlx::{AssertSqlSafe, Executor as _, query, query_scalar, raw_sql};

use super::{
    StoreError,
    pool::{Backend, Pool},
};

/// Each step leads from the version of its position to the next one. Never change one that was released.
const STEPS: [&str; 3] = [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// What names the lock on PostgreSQL: any number that nothing else in that database uses.
const LOCK: i64 = 0x646f_6372_656c_6179;

/// Brings the tables to the version that this docrelay knows.
///
/// # Errors
/// The database is away, or its schema is newer.
pub(super) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    let mut transaction = pool.begin_alone().await?;
    if let Backend::PostgreSql = pool.backend() {
        query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
        // That the table below is there already is no news, and would be a line of the driver's at each start.
        transaction.execute(raw_sql("SET LOCAL client_min_messages = warning")).await?;
    }
    transaction.execute(raw_sql("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")).await?;
    let found: Option<i64> =
        query_scalar("SELECT max(version) FROM schema_version").fetch_one(&mut *transaction).await?;
    let (found, known) = (found.unwrap_or(0), version_of(STEPS.len()));
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (index, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let step = match pool.backend() {
            Backend::Sqlite => step.replace("BYTEA", "BLOB"),
            Backend::PostgreSql => (*step).to_owned(),
        };
        transaction.execute(raw_sql(AssertSqlSafe(step))).await?;
        let version = version_of(index + 1);
        query("INSERT INTO schema_version (version) VALUES ($1)").bind(version).execute(&mut *transaction).await?;
        tracing::info!(version, "Store migrated");
    }
    transaction.commit().await?;
    Ok(())
}

fn version_of(steps: usize) -> i64 {
    i64::try_from(steps).unwrap_or(i64::MAX)
}
