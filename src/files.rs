//! How many files and connections the process may have open at once.
//!
//! Many systems start a process with a soft limit of 1,024 and a hard one far above it, so that old programs are not
//! surprised. A thousand requests that get no answer, and the connections kept for those that do, are more than that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer the service runs, but a bad day can exhaust them.
const ENOUGH: u64 = 4096;

/// Raises the soft limit to the hard one. Where that is not enough, says so.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let now = getrlimit(Resource::Nofile).current;
    if let Some(limit) = now.filter(|limit| *limit < ENOUGH) {
        let error = raised.err().map(tracing::field::display);
        tracing::warn!(limit, enough = ENOUGH, error, "Few files may be open at once; raise the limit (ulimit -n)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
