//! Object stores: whether a file is there, and a link that the store itself honours. Signing and talking to them is the
//! business of the `object_store` crate, which stops here.

use std::{error::Error, fmt, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
    signer::{Method, Signer},
};
use tokio::time::timeout;
use url::Url;

use super::{
    BadStore, SignError, SignedLink,
    path::{ArtifactPath, encode},
    sas::{self, AccountKey},
};
use crate::{
    config::{ArtifactsConfig, Cloud},
    domain::{Secret, Timestamp},
};

/// For everything that one link takes: an attempt of a delivery waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// For one request of it, and for its connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// No store honours a link for longer: seven days.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// Without a service account's own key, Google signs with keys of its own, which it changes. It vouches for 12 hours.
const LONGEST_BY_GOOGLES_KEYS: Duration = Duration::from_hours(12);

/// How much of a library's error is told.
const MOST_LETTERS: usize = 300;

/// A store that tells what is there and signs links.
trait SigningStore: ObjectStore + Signer {}

impl<S: ObjectStore + Signer> SigningStore for S {}

/// A bucket or container.
pub(super) struct CloudStore {
    cloud: Cloud,
    bucket: String,
    prefix: String,
    /// Azure's, where there is one.
    account_key: Option<AccountKey>,
    store: Arc<dyn SigningStore>,
    longest: Duration,
    /// What must not stand in an error.
    secrets: Vec<Secret>,
}

/// The library would show whatever its store is made of, keys included.
impl fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.cloud.scheme(), self.bucket, self.prefix)
    }
}

impl CloudStore {
    /// The store of the settings. Connects to nothing.
    ///
    /// # Errors
    /// When the settings are wrong, or make a store that cannot sign links that last.
    pub(super) fn new(cloud: Cloud, bucket: &str, prefix: &str, config: &ArtifactsConfig) -> Result<Self, BadStore> {
        let settings = config.variables.iter().chain(&config.options);
        let secrets: Vec<Secret> =
            settings.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone()).collect();
        let (mut longest, mut account_key) = (LONGEST, None);
        let store: Arc<dyn SigningStore> = match cloud {
            Cloud::Azure => {
                let (store, key) = azure(bucket, config, &secrets)?;
                account_key = key;
                store
            }
            Cloud::S3 => s3(bucket, config, &secrets)?,
            Cloud::Google => {
                let (store, has_key) = google(bucket, config, &secrets)?;
                if !has_key {
                    longest = LONGEST_BY_GOOGLES_KEYS;
                }
                store
            }
        };
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(Self { cloud, bucket, prefix, account_key, store, longest, secrets })
    }

    /// A link to a file that is there, for `valid_for` from now.
    ///
    /// # Errors
    /// When it is not there, or the store does not say.
    pub(super) async fn sign(&self, path: &ArtifactPath, valid_for: Duration) -> Result<SignedLink, SignError> {
        let name = self.name(path);
        let key = Path::parse(&name).map_err(|_| SignError::BadPath("no object can have that name"))?;
        // The library puts names into Google's links as they are: a `?` would begin a query there.
        let in_links = if self.cloud == Cloud::Google { Path::parse(encode(&name)).ok() } else { None };
        let signing = async {
            self.store.head(&key).await?;
            let key = in_links.as_ref().unwrap_or(&key);
            self.store.signed_url(Method::GET, key, valid_for.min(self.longest)).await
        };
        let mut url = match timeout(DEADLINE, signing).await {
            Ok(Ok(url)) => url,
            Ok(Err(error)) => return Err(sign_error(&error, &self.secrets)),
            Err(_elapsed) => return Err(SignError::Failed("no answer within 5 s".to_owned())),
        };
        if self.cloud == Cloud::Azure && sas::needs_another_signature(&url) {
            let key = self.account_key.as_ref().ok_or_else(|| {
                SignError::Failed(
                    "an identity cannot sign links to names that URLs encode; give an account key".to_owned(),
                )
            })?;
            key.sign_again(&mut url, &self.bucket, &name);
        }
        let expires_at = expiry(self.cloud, &url);
        let expires_at = expires_at.ok_or_else(|| SignError::Failed("the link names no expiry".to_owned()))?;
        Ok(SignedLink { url: url.into(), expires_at })
    }

    /// What whoever runs the service should know.
    pub(super) fn warning(&self) -> Option<String> {
        (self.longest < LONGEST).then(|| {
            "without google_service_account, Google signs links with keys of its own: no link works longer than 12 hours"
                .to_owned()
        })
    }

    /// The name of a file's object.
    fn name(&self, path: &ArtifactPath) -> String {
        match self.prefix.as_str() {
            "" => path.as_str().to_owned(),
            prefix => format!("{prefix}/{}", path.as_str()),
        }
    }
}

/// The store, and the account's key if it signs with that.
fn azure(
    bucket: &str,
    config: &ArtifactsConfig,
    secrets: &[Secret],
) -> Result<(Arc<dyn SigningStore>, Option<AccountKey>), BadStore> {
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(client()).with_retry(retry());
    for (key, value) in settings::<AzureConfigKey>(config)? {
        builder = builder.with_config(key, value);
    }
    let value = |key| builder.get_config_value(&key);
    let account = value(AzureConfigKey::AccountName).zip(value(AzureConfigKey::AccessKey));
    if value(AzureConfigKey::SasKey).is_some() && account.is_none() {
        return Err(BadStore(
            "a shared access signature cannot sign links to single files, and handing it out would open the whole \
             container: give an account key (azure_storage_account_key) or an identity"
                .to_owned(),
        ));
    }
    let store = builder.with_container_name(bucket).build();
    let store = store.map_err(|error| bad_store(&error, secrets))?;
    Ok((Arc::new(store), account.and_then(|(name, key)| AccountKey::read(name, &key))))
}

fn s3(bucket: &str, config: &ArtifactsConfig, secrets: &[Secret]) -> Result<Arc<dyn SigningStore>, BadStore> {
    let mut builder = AmazonS3Builder::new().with_client_options(client()).with_retry(retry());
    for (key, value) in settings::<AmazonS3ConfigKey>(config)? {
        builder = builder.with_config(key, value);
    }
    let has = |key| builder.get_config_value(&key).is_some();
    if !has(AmazonS3ConfigKey::AccessKeyId) || !has(AmazonS3ConfigKey::SecretAccessKey) {
        return Err(BadStore(
            "links to S3 need an access key (aws_access_key_id and aws_secret_access_key): what a role signs dies with \
             its session, at a time that nobody can promise"
                .to_owned(),
        ));
    }
    if has(AmazonS3ConfigKey::Token) && config.credentials_expire.is_none() {
        return Err(BadStore(
            "aws_session_token ends, and links with it: say when in artifacts.credentials_expire".to_owned(),
        ));
    }
    let store = builder.with_bucket_name(bucket).build();
    Ok(Arc::new(store.map_err(|error| bad_store(&error, secrets))?))
}

/// The store, and whether it signs with a key of its own.
fn google(
    bucket: &str,
    config: &ArtifactsConfig,
    secrets: &[Secret],
) -> Result<(Arc<dyn SigningStore>, bool), BadStore> {
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(client()).with_retry(retry());
    for (key, value) in settings::<GoogleConfigKey>(config)? {
        builder = builder.with_config(key, value);
    }
    let has = |key| builder.get_config_value(&key).is_some();
    let has_key = has(GoogleConfigKey::ServiceAccount) || has(GoogleConfigKey::ServiceAccountKey);
    let store = builder.with_bucket_name(bucket).build();
    Ok((Arc::new(store.map_err(|error| bad_store(&error, secrets))?), has_key))
}

/// The settings as the store's library has them; the environment's first, so that ours win.
fn settings<K: FromStr>(config: &ArtifactsConfig) -> Result<Vec<(K, String)>, BadStore> {
    let known = |(name, value): (&String, &Secret)| Some((name.parse().ok()?, value.reveal().to_owned()));
    let mut settings: Vec<(K, String)> = config.variables.iter().filter_map(known).collect();
    for (name, value) in &config.options {
        let key = name.parse().map_err(|_| BadStore(format!("the store knows no option {name:?}")))?;
        settings.push((key, value.reveal().to_owned()));
    }
    Ok(settings)
}

fn client() -> ClientOptions {
    ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT)
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: DEADLINE }
}

/// Until when the store honours a link that it signed.
fn expiry(cloud: Cloud, url: &Url) -> Option<Timestamp> {
    let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let (from, seconds) = match cloud {
        Cloud::Azure => return Timestamp::from_rfc3339(&value("se")?),
        Cloud::S3 => (value("X-Amz-Date")?, value("X-Amz-Expires")?),
        Cloud::Google => (value("X-Goog-Date")?, value("X-Goog-Expires")?),
    };
    Some(compact_time(&from)?.after(Duration::from_secs(seconds.parse().ok()?)))
}

/// `20260131T120000Z`
fn compact_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let part = |text: &str, from, to| text.get(from..to).map(str::to_owned);
    let date = [part(date, 0, 4)?, part(date, 4, 6)?, part(date, 6, 8)?].join("-");
    let time = [part(time, 0, 2)?, part(time, 2, 4)?, part(time, 4, 6)?].join(":");
    Timestamp::from_rfc3339(&format!("{date}T{time}Z"))
}

fn sign_error(error: &object_store::Error, secrets: &[Secret]) -> SignError {
    match error {
        object_store::Error::NotFound { .. } => SignError::Missing,
        object_store::Error::PermissionDenied { .. } => {
            SignError::Failed("it refuses the credentials permission (403)".to_owned())
        }
        object_store::Error::Unauthenticated { .. } => {
            SignError::Failed("it does not accept the credentials (401)".to_owned())
        }
        other => SignError::Failed(told(other, secrets)),
    }
}

fn bad_store(error: &object_store::Error, secrets: &[Secret]) -> BadStore {
    BadStore(told(error, secrets))
}

/// A library's error on one line, with its last cause and without what is secret.
fn told(error: &object_store::Error, secrets: &[Secret]) -> String {
    let mut text = error.to_string();
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    if !text.contains(&cause) {
        text = format!("{text}: {cause}");
    }
    for secret in secrets.iter().map(Secret::reveal).filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    text.chars().take(MOST_LETTERS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn is_secret(name: &str) -> bool {
    ["key", "secret", "token", "proxy"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[(&str, &str)]) -> ArtifactsConfig {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        ArtifactsConfig { options: options.collect(), ..ArtifactsConfig::default() }
    }

    fn problem(cloud: Cloud, options: &[(&str, &str)]) -> String {
        CloudStore::new(cloud, "exports", "", &config(options)).unwrap_err().to_string()
    }

    const S3_KEY: [(&str, &str); 2] = [("aws_access_key_id", "relay"), ("aws_secret_access_key", "hunter2")];

    #[test]
    fn credentials_that_sign_no_link_that_lasts_are_refused() {
        assert!(problem(Cloud::S3, &[]).contains("access key"));
        assert!(
            problem(Cloud::S3, &[("aws_role_arn", "arn"), ("aws_web_identity_token_file", "/t")]).contains("session")
        );
        let session = [S3_KEY[0], S3_KEY[1], ("aws_session_token", "token")];
        assert!(problem(Cloud::S3, &session).contains("artifacts.credentials_expire"));
        let said = ArtifactsConfig { credentials_expire: Timestamp::from_unix(2_000_000_000, 0), ..config(&session) };
        assert!(CloudStore::new(Cloud::S3, "exports", "", &said).is_ok());
        let sas =
            [("azure_storage_account_name", "a"), ("azure_storage_sas_key", "sv=1&se=2030-01-01T00:00:00Z&sig=x")];
        assert!(problem(Cloud::Azure, &sas).contains("whole container"));
        assert!(problem(Cloud::Google, &[("google_service_account", "/nowhere/account.json")]).contains("/nowhere"));
    }

    #[test]
    fn an_unknown_option_is_refused_and_an_unknown_variable_is_nobodys_mistake() {
        let unknown = problem(Cloud::S3, &[S3_KEY[0], S3_KEY[1], ("aws_reigon", "hunter2")]);
        assert!(unknown.contains("aws_reigon") && !unknown.contains("hunter2"), "{unknown}");
        let variables = [("aws_profile".to_owned(), Secret::new("x"))].into();
        let config = ArtifactsConfig { variables, ..config(&S3_KEY) };
        assert!(CloudStore::new(Cloud::S3, "exports", "", &config).is_ok());
    }

    #[test]
    fn the_expiry_is_read_from_the_link_as_each_store_writes_it() {
        let expected = Timestamp::from_rfc3339("2026-11-25T18:00:00Z");
        for (cloud, query) in [
            (Cloud::Azure, "se=2026-11-25T18%3A00%3A00Z&sig=x"),
            (Cloud::S3, "X-Amz-Date=20261125T170000Z&X-Amz-Expires=3600"),
            (Cloud::Google, "X-Goog-Date=20261125T170000Z&X-Goog-Expires=3600"),
        ] {
            let url = Url::parse(&format!("https://store/a?{query}")).unwrap();
            assert_eq!(expiry(cloud, &url), expected, "{query}");
        }
        for query in ["", "X-Amz-Date=2026&X-Amz-Expires=1", "X-Amz-Date=20261125T170000Z&X-Amz-Expires=ü"] {
            assert_eq!(expiry(Cloud::S3, &Url::parse(&format!("https://store/a?{query}")).unwrap()), None, "{query}");
        }
    }

    #[test]
    fn no_secret_stands_in_what_is_told_of_an_error() {
        let source = "the key hunter2 is\nwrong".into();
        let error = object_store::Error::Generic { store: "S3", source };
        let told = told(&error, &[Secret::new("hunter2")]);
        assert_eq!(told, "Generic S3 error: the key *** is wrong");
        let store = CloudStore::new(Cloud::S3, "exports", "", &config(&S3_KEY)).unwrap();
        assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
    }
}
