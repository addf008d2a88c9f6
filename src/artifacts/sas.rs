//! Azure's links to names that URLs encode. The library signs a name as it stands in the URL, Azure checks it as it is: such
//! a link needs another signature over the same terms. Pure.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;

/// A storage account and its key.
#[derive(Debug, Clone)]
pub(super) struct AccountKey {
    account: String,
    key: hmac::Key,
}

/// Whether the name in this link is encoded.
pub(super) fn needs_another_signature(url: &Url) -> bool {
    percent_decode_str(url.path()).ne(url.path().bytes())
}

impl AccountKey {
    /// The key, which is base64; none when it is not.
    pub(super) fn read(account: String, key: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(key).ok()?;
        Some(Self { account, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// Signs a link to one blob again, as Azure's page on the service SAS has it for the version from 2020 on.
    pub(super) fn sign_again(&self, url: &mut Url, container: &str, name: &str) {
        let terms: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(key, _)| key != "sig").collect();
        let term = |name| terms.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let resource = format!("/blob/{}/{container}/{name}", self.account);
        let [identifier, address, protocol, snapshot, encryption] = [""; 5];
        let [cache_control, disposition, encoding, language, content_type] = [""; 5];
        let signed = [
            term("sp"),
            term("st"),
            term("se"),
            &resource,
            identifier,
            address,
            protocol,
            term("sv"),
            term("sr"),
            snapshot,
            encryption,
            cache_control,
            disposition,
            encoding,
            language,
            content_type,
        ];
        let tag = hmac::sign(&self.key, signed.join("\n").as_bytes());
        url.query_pairs_mut().clear().extend_pairs(&terms).append_pair("sig", &BASE64_STANDARD.encode(tag));
    }
}
