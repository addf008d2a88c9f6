//! The suite on PostgreSQL.

use super::Database;

super::conformance::conformance!(Database::postgres);
