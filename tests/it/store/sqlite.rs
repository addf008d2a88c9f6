//! The suite on SQLite, and what only a file can be asked.

use std::os::unix::fs::PermissionsExt as _;

use super::{Database, at, new};

super::conformance::conformance!(Database::sqlite);

#[tokio::test]
async fn the_file_and_what_is_beside_it_are_their_owners_only() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&new("a"), at(0)).await.unwrap();
    let folder = database.file.as_ref().unwrap().parent().unwrap();
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    assert!(files.len() > 1, "write-ahead logging has a file of its own");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", file.path().display());
    }
}
