//! `webhook-signature`, after the Standard Webhooks specification: who knows the secret can tell that a request came from
//! here and that nobody changed it. Pure.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::domain::SigningSecret;

/// The header's value: one `v1,<signature>` for each secret, with spaces between them; a receiver needs to know one.
/// `None` without a secret.
///
/// The signature is over `{id}.{timestamp}.{body}`, so that neither an old request nor another's can be sent again under a
/// new name or time.
pub(super) fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> Option<HeaderValue> {
    let signatures: Vec<String> = secrets
        .iter()
        .filter_map(|secret| {
            // It takes keys of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).ok()?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
        })
        .collect();
    if signatures.is_empty() {
        return None;
    }
    HeaderValue::from_str(&signatures.join(" ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn published(secrets: &[&str]) -> HeaderValue {
        let secrets: Vec<SigningSecret> = secrets.iter().map(|secret| secret.parse().unwrap()).collect();
        sign(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        assert_eq!(published(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]), PUBLISHED);
    }

    #[test]
    fn the_example_of_the_documents_is_signed_as_it_says() {
        let secret = "whsec_cmVwbGFjZS1tZS1yZXBsYWNlLW1lLXJlcGxhY2UtbWU=";
        let (id, timestamp) = ("9ffac18a-d59c-5915-891b-d76e8c7d495f", 1_795_314_635);
        let body = r#"{"event":"document_predict","organization":"acme","inbox":"invoices","data":{"id":"doc-7","total":0.10}}"#;
        let signature = sign(&[secret.parse().unwrap()], id, timestamp, body.as_bytes()).unwrap();
        let document = include_str!("../../docs/subscriptions.md");
        for part in [secret, id, &timestamp.to_string(), body, signature.to_str().unwrap()] {
            assert!(document.contains(part), "{part}");
        }
    }

    #[test]
    fn every_secret_signs_once_in_its_order() {
        let [one, other] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
        let both = published(&[one, other]);
        let (first, second) = both.to_str().unwrap().split_once(' ').unwrap();
        assert_eq!(first, PUBLISHED);
        assert_eq!(second, published(&[other]).to_str().unwrap());
        assert_ne!(second, PUBLISHED);
    }

    #[test]
    fn without_a_secret_there_is_no_signature() {
        assert_eq!(sign(&[], "id", 0, b""), None);
    }
}
