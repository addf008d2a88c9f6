//! Reads `artifacts.*` and `api.listen`, and what they must be together.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use url::Url;

use crate::{
    config::{ApiConfig, ArtifactsConfig, ArtifactsPlace, Cloud, Config, SigningKey, read::Reader},
    domain::{Secret, Timestamp},
};

/// How long a signing key is, in bytes: as long as what it makes.
const KEY_BYTES: usize = 32;

/// The longest name of a key.
const MAX_KEY_ID: usize = 32;

/// What the variables begin with that the stores' own tools read.
const VARIABLES: [&str; 3] = ["AZURE_", "AWS_", "GOOGLE_"];

/// What the paths of the API begin with, which is served at the same address.
const API_PATHS: [&str; 6] = ["v1", "integrations", "document_webhooks", "api_document", "problems", "openapi.json"];

const PLACES: &str = "expected file:///folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix";

/// `api.listen`
pub(super) fn api(read: &mut Reader<'_>) -> ApiConfig {
    let listen = read.parsed("api.listen", |text| {
        unless_empty(text, |text| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("expected an IP address and a port such as \"0.0.0.0:8080\", got {text:?}"))
        })
    });
    ApiConfig { listen }
}

/// What a signing key looks like.
const KEY: &str = "id:key, the key 32 bytes in base64";

/// `artifacts.*`; `environment` is the process's.
pub(super) fn artifacts(read: &mut Reader<'_>, environment: &[(String, String)]) -> ArtifactsConfig {
    let options = read.secrets("artifacts.options", "name=value", |text| {
        let pair = text.split_once('=').map(|(name, value)| (name.trim().to_lowercase(), Secret::new(value.trim())));
        pair.ok_or_else(|| "expected name=value".to_owned())
    });
    ArtifactsConfig {
        place: read.parsed("artifacts.url", |text| unless_empty(text, place)),
        public_url: read.parsed("artifacts.public_url", |text| unless_empty(text, public_url)),
        signing_keys: read
            .secrets("artifacts.signing_keys", KEY, |text| signing_key(text).ok_or_else(|| format!("expected {KEY}"))),
        credentials_expire: read.parsed("artifacts.credentials_expire", |text| {
            unless_empty(text, |text| {
                Timestamp::from_rfc3339(text)
                    .ok_or_else(|| format!("expected a time such as \"2030-01-31T12:00:00Z\", got {text:?}"))
            })
        }),
        options: options.into_iter().collect(),
        variables: variables(environment),
    }
}

/// What the settings must be together.
pub(super) fn check_together(read: &mut Reader<'_>, config: &Config) {
    const KEYS: [&str; 6] = [
        "artifacts.url",
        "artifacts.public_url",
        "artifacts.signing_keys",
        "artifacts.options",
        "api.listen",
        "store.url",
    ];
    let (api, artifacts) = (&config.api, &config.artifacts);
    if !read.are_sound(&KEYS) {
        return;
    }
    let mut ids: Vec<&str> = artifacts.signing_keys.iter().map(|key| key.id.as_str()).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair.first() == pair.last()) {
        read.problem("artifacts.signing_keys", "two keys have one id");
    }
    let is_folder = matches!(artifacts.place, Some(ArtifactsPlace::Folder(_)));
    let is_cloud = matches!(artifacts.place, Some(ArtifactsPlace::Cloud { .. }));
    for (key, is_set) in [
        ("artifacts.public_url", artifacts.public_url.is_some()),
        ("artifacts.signing_keys", !artifacts.signing_keys.is_empty()),
    ] {
        match (is_folder, is_set) {
            (true, false) => {
                read.problem(key, "is needed for artifacts.url = \"file://...\": docrelay serves the files");
            }
            (false, true) => read.problem(key, "is only for artifacts.url = \"file://...\": leave it empty"),
            (true, true) | (false, false) => {}
        }
    }
    match (api.listen, is_folder, &config.store.url) {
        (None, true, _) => {
            read.problem("api.listen", "is needed for artifacts.url = \"file://...\": docrelay serves the files there");
        }
        (Some(_), false, None) => read.problem(
            "api.listen",
            "there is nothing to serve: set store.url (the API), or artifacts.url = \"file://...\" (download links), or leave it empty",
        ),
        (Some(_), true, _) | (Some(_), false, Some(_)) | (None, false, _) => {}
    }
    for (key, is_set) in [
        ("artifacts.options", !artifacts.options.is_empty()),
        ("artifacts.credentials_expire", artifacts.credentials_expire.is_some()),
    ] {
        if is_set && !is_cloud {
            read.problem(key, "is only for artifacts.url = \"az://\", \"s3://\" or \"gs://\": leave it empty");
        }
    }
}

fn unless_empty<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn place(text: &str) -> Result<ArtifactsPlace, String> {
    // Never repeated as a whole: somebody may have put credentials into it.
    let (scheme, rest) = text.split_once("://").ok_or(PLACES)?;
    let cloud = match scheme {
        "file" => {
            let path = PathBuf::from(rest);
            return if path.is_absolute() { Ok(ArtifactsPlace::Folder(path)) } else { Err(PLACES.to_owned()) };
        }
        "az" => Cloud::Azure,
        "s3" => Cloud::S3,
        "gs" => Cloud::Google,
        _ => return Err(PLACES.to_owned()),
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | '$');
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err(format!("the name of the bucket is not one: {PLACES}"));
    }
    let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains(char::is_control);
    if !prefix.is_empty() && prefix.split('/').any(bad) {
        return Err(format!("the prefix must be names with single slashes between them: {PLACES}"));
    }
    Ok(ArtifactsPlace::Cloud { cloud, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn public_url(text: &str) -> Result<Url, String> {
    let expected = "expected a URL with a path, such as \"https://relay.example/artifacts\"";
    let url = Url::parse(text).map_err(|error| format!("{expected}: {error}"))?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let is_web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    if !is_web || !is_plain || url.fragment().is_some() {
        return Err(format!("{expected}, without user, password, query or fragment"));
    }
    // The path tells links from everything else that is served at api.listen, now or later.
    let path = url.path().trim_end_matches('/');
    if path.is_empty() || path.contains("//") {
        return Err(expected.to_owned());
    }
    let first = path.split('/').nth(1).unwrap_or_default();
    if API_PATHS.contains(&first) {
        return Err(format!("{expected}; /{first} is one of the API"));
    }
    Ok(url)
}

fn signing_key(text: &str) -> Option<SigningKey> {
    let (id, key) = text.split_once(':')?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    let is_id = !id.is_empty() && id.len() <= MAX_KEY_ID && id.chars().all(plain);
    let is_key = BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    (is_id && is_key).then(|| SigningKey { id: id.to_owned(), key: Secret::new(key) })
}

fn variables(environment: &[(String, String)]) -> BTreeMap<String, Secret> {
    let ours = environment.iter().filter(|(name, _)| VARIABLES.iter().any(|begin| name.starts_with(begin)));
    ours.filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_lowercase(), Secret::new(value.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, load, render};

    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

    fn with(variables: &[(&str, &str)]) -> Result<Config, Problems> {
        load(&[], variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn folder(further: &[(&str, &str)]) -> Result<Config, Problems> {
        let keys = format!("new:{KEY}, old:{KEY}");
        let mut all = vec![
            ("DOCRELAY__ARTIFACTS__URL", "file:///srv/files"),
            ("DOCRELAY__ARTIFACTS__PUBLIC_URL", "https://relay.example/artifacts/"),
            ("DOCRELAY__ARTIFACTS__SIGNING_KEYS", &keys),
            ("DOCRELAY__API__LISTEN", "127.0.0.1:8080"),
        ];
        all.retain(|(name, _)| further.iter().all(|(other, _)| other != name));
        all.extend(further);
        with(&all)
    }

    #[test]
    fn a_folder_is_read_with_everything_it_needs() {
        let config = folder(&[]).unwrap();
        assert_eq!(config.artifacts.place, Some(ArtifactsPlace::Folder("/srv/files".into())));
        assert_eq!(config.artifacts.signing_keys.len(), 2);
        assert_eq!(config.artifacts.signing_keys[0].id, "new");
        assert_eq!(config.api.listen, Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
        for name in ["ARTIFACTS__PUBLIC_URL", "ARTIFACTS__SIGNING_KEYS", "API__LISTEN"] {
            let problems = folder(&[(&format!("DOCRELAY__{name}"), "")]).unwrap_err();
            assert!(problems.len() == 1 && problems.to_string().contains("is needed"), "{problems}");
        }
        // Without a folder they would mean nothing; the address may be the API's.
        assert_eq!(folder(&[("DOCRELAY__ARTIFACTS__URL", "")]).unwrap_err().len(), 3);
        assert_eq!(folder(&[("DOCRELAY__ARTIFACTS__OPTIONS", "a=b")]).unwrap_err().len(), 1);
        let store = ("DOCRELAY__STORE__URL", "sqlite:///srv/store.db");
        assert_eq!(folder(&[("DOCRELAY__ARTIFACTS__URL", ""), store]).unwrap_err().len(), 2);
    }

    #[test]
    fn an_address_to_serve_at_needs_something_to_serve() {
        let listen = ("DOCRELAY__API__LISTEN", "127.0.0.1:8080");
        let problems = with(&[listen]).unwrap_err().to_string();
        assert!(problems.contains("api.listen") && problems.contains("set store.url"), "{problems}");
        assert!(with(&[listen, ("DOCRELAY__STORE__URL", "sqlite:///srv/store.db")]).is_ok());
    }

    #[test]
    fn links_keep_off_the_paths_of_the_api() {
        for path in ["/v1", "/v1/files", "/integrations", "/document_webhooks/x", "/problems", "/openapi.json"] {
            let problems = folder(&[("DOCRELAY__ARTIFACTS__PUBLIC_URL", &format!("https://relay.example{path}"))]);
            let problems = problems.unwrap_err().to_string();
            assert!(problems.contains("artifacts.public_url") && problems.contains("of the API"), "{problems}");
        }
        assert!(folder(&[("DOCRELAY__ARTIFACTS__PUBLIC_URL", "https://relay.example/v1files")]).is_ok());
    }

    #[test]
    fn a_cloud_store_is_read_with_its_options_and_the_usual_variables() {
        let config = with(&[
            ("DOCRELAY__ARTIFACTS__URL", "s3://exports/finished/files/"),
            ("DOCRELAY__ARTIFACTS__OPTIONS", "aws_region=eu-west-1,aws_secret_access_key=hunter2=="),
            ("DOCRELAY__ARTIFACTS__CREDENTIALS_EXPIRE", "2030-01-31T12:00:00Z"),
            ("AWS_ACCESS_KEY_ID", "AKIA-hunter2"),
            ("AWS_PROFILE", ""),
            ("PATH", "/bin"),
        ]);
        let config = config.unwrap();
        let place = config.artifacts.place.as_ref().unwrap();
        assert_eq!(place.to_url(), "s3://exports/finished/files");
        assert_eq!(config.artifacts.options["aws_secret_access_key"].reveal(), "hunter2==");
        assert_eq!(config.artifacts.variables.keys().collect::<Vec<_>>(), ["aws_access_key_id"]);
        let shown = render(&config);
        assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{shown}");
        assert!(shown.contains("options = [\"aws_region=***\", \"aws_secret_access_key=***\"]"), "{shown}");
    }

    #[test]
    fn bad_places_urls_and_keys_are_problems_that_repeat_no_secret() {
        for (name, value) in [
            ("ARTIFACTS__URL", "srv/hunter2"),
            ("ARTIFACTS__URL", "file://hunter2/files"),
            ("ARTIFACTS__URL", "ftp://hunter2/files"),
            ("ARTIFACTS__URL", "s3://"),
            ("ARTIFACTS__URL", "s3://key:hunter2@bucket/files"),
            ("ARTIFACTS__URL", "gs://bucket/hunter2//files"),
            ("ARTIFACTS__URL", "az://container/../hunter2"),
            ("ARTIFACTS__PUBLIC_URL", "https://relay.example"),
            ("ARTIFACTS__PUBLIC_URL", "https://relay.example/"),
            ("ARTIFACTS__PUBLIC_URL", "https://u:hunter2@relay.example/a"),
            ("ARTIFACTS__PUBLIC_URL", "https://relay.example/a?hunter2"),
            ("ARTIFACTS__PUBLIC_URL", "ftp://relay.example/a"),
            ("ARTIFACTS__SIGNING_KEYS", "hunter2"),
            ("ARTIFACTS__SIGNING_KEYS", "k:aHVudGVyMg=="),
            ("ARTIFACTS__SIGNING_KEYS", ":MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
            ("ARTIFACTS__SIGNING_KEYS", "a&b:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
            ("ARTIFACTS__OPTIONS", "hunter2"),
            ("API__LISTEN", "localhost"),
        ] {
            let problems = folder(&[(&format!("DOCRELAY__{name}"), value)]).unwrap_err();
            assert_eq!(problems.len(), 1, "{name}={value}: {problems}");
            assert!(!problems.to_string().contains("hunter2"), "{problems}");
        }
        let twice = format!("k:{KEY},k:{KEY}");
        let problems = folder(&[("DOCRELAY__ARTIFACTS__SIGNING_KEYS", &twice)]).unwrap_err();
        assert!(problems.to_string().contains("two keys have one id"), "{problems}");
    }
}
