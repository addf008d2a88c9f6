//! IDEXA's document webhooks: their words and the canonical ones. Pure.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Said, must_stay,
    reading::{Names, Reader, pointer},
    words::Words,
};
use crate::{
    api::{
        problem::FieldError,
        secrets::{self, Json, at},
        view::Shown,
    },
    domain::{EventName, OrganizationId, Payload, Subscription, Target, Timestamp},
};

const NAMES: Names = Names {
    given: &[
        "name",
        "type",
        "method",
        "headers",
        "headerAuth",
        "url",
        "authorization",
        "authorizationUrl",
        "authorizationMethod",
        "authorizationHeaders",
        "authorizationBody",
        "authorizationResponseTokenAttr",
    ],
    told: &["id", "clientId", "createdAt", "updatedAt"],
};

/// What the page calls the fields of a login, and their canonical names.
const LOGIN: [(&str, &str); 6] = [
    ("authorizationUrl", "url"),
    ("authorizationMethod", "method"),
    ("authorizationHeaders", "headers"),
    ("authorizationBody", "body"),
    ("authorizationResponseTokenAttr", "token_attribute"),
    ("headerAuth", "scheme"),
];

/// Canonical places and the page's names of them.
const WORDS: Words = &[
    ("/auth/login/url", "/authorizationUrl"),
    ("/auth/login/method", "/authorizationMethod"),
    // What is said of a login as a whole is the size of its headers.
    ("/auth/login/headers", "/authorizationHeaders"),
    ("/auth/login/body", "/authorizationBody"),
    ("/auth/login/token_attribute", "/authorizationResponseTokenAttr"),
    ("/auth/login/scheme", "/headerAuth"),
    ("/auth/authorization", "/authorization"),
    ("/target/url", "/url"),
    ("/target/method", "/method"),
    ("/target/headers", "/headers"),
    // The same of a target.
    ("/target", "/headers"),
];

/// Stands for a login's address where none was given, so that what is said of the login can be checked.
const SOME_LOGIN: &str = "http://login.invalid/";

/// The namespace of client ids. Never change it: clients may have written theirs down.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d1c_2f4e_8b0a_5e37_a7c3_0f6d_94b1_e628);

/// What a login's body may be.
const BODY: &str = "an object of text, whole numbers, true or false";

/// What a field of it may be.
const FIELD: &str = "text, a whole number, true or false";

/// What the organization is called as a client: a `UUIDv5` of its name, so that it stays when keys change.
pub(super) fn client_id(organization: &OrganizationId) -> Uuid {
    Uuid::new_v5(&NAMESPACE, organization.as_str().as_bytes())
}

/// What is to be made.
pub(super) fn create(body: &Json) -> Said {
    let mut reader = Reader::new(body, &NAMES);
    let name = reader.required_text("name").map(Value::from);
    check_type(&mut reader);
    let (method, url) = (reader.required("method"), reader.required("url"));
    check_body(&mut reader);

    let target = object([("url", url), ("method", method), ("headers", reader.given("headers"))]);
    let events = json!([EventName::DocumentFinish.as_str()]);
    let (payload, target) = (Payload::Idexa.as_str().into(), target.into());
    let document = object([
        ("name", name.as_ref()),
        ("events", Some(&events)),
        ("payload", Some(&payload)),
        ("target", Some(&target)),
    ]);
    let authorization = object([("authorization", reader.given("authorization"))]);

    let login = login(&reader);
    let has_address = login.contains_key("url");
    let aside = if has_address { Json::new() } else { aside(&login) };
    let stored = Some(&login).filter(|_| has_address).cloned();
    let checked = Some(login).filter(|login| !login.is_empty()).map(|mut login| {
        login.entry("url").or_insert_with(|| SOME_LOGIN.into());
        login
    });
    Said {
        rehearsal: with_auth(document.clone(), authorization.clone(), checked),
        document: with_auth(document, authorization, stored),
        aside,
        errors: reader.errors,
        words: WORDS,
    }
}

/// A webhook as it is told: what was given, and `null` for what was not.
pub(super) fn tell(shown: &Shown) -> Value {
    let said = |names: &[&str]| at(&shown.said, names);
    let login = |name: &str| match said(&["auth", "login"]) {
        Some(login) => login.get(name),
        // Without a login nothing else knows what was given of it.
        None => shown.aside.get(name),
    };
    let time = |time: Option<Timestamp>| time.map(|time| time.to_rfc3339_micros().replace('Z', "+00:00"));
    json!({
        "id": shown.id.as_str(),
        "clientId": client_id(&shown.organization).to_string(),
        "name": said(&["name"]),
        "type": 0,
        "method": said(&["target", "method"]),
        "headers": said(&["target", "headers"]),
        "headerAuth": login("scheme"),
        "url": said(&["target", "url"]),
        "authorization": said(&["auth", "authorization"]),
        "authorizationUrl": login("url"),
        "authorizationMethod": login("method"),
        "authorizationHeaders": login("headers"),
        "authorizationResponseTokenAttr": login("token_attribute"),
        "createdAt": time(shown.created_at),
        "updatedAt": time(shown.updated_at),
    })
}

/// What a document webhook could not tell: it is a request with IDEXA's body.
pub(super) fn untold(subscription: &Subscription) -> Vec<FieldError> {
    let claims = [
        (subscription.payload == Payload::Idexa, "/payload", "idexa"),
        (matches!(subscription.target, Target::Http(_)), "/target/type", "http"),
    ];
    let wrong = claims.into_iter().filter(|(holds, ..)| !holds);
    wrong.map(|(_, at, only)| must_stay(at, only, "/document_webhooks")).collect()
}

fn check_type(reader: &mut Reader<'_>) {
    const EXPECTED: &str = "0 (document finished)";
    match reader.required("type") {
        Some(Value::Number(number)) if number.as_u64() == Some(0) => {}
        Some(number @ Value::Number(_)) => reader.expected_instead("type", EXPECTED, number),
        Some(other) => reader.expected("type", EXPECTED, other),
        None => {}
    }
}

/// What is wrong with the body before it can be said in canonical words.
fn check_body(reader: &mut Reader<'_>) {
    match reader.given("authorizationBody") {
        Some(Value::Object(fields)) => {
            for name in fields.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name) {
                reader.expected_at(format!("/authorizationBody{}", pointer(name)), FIELD, &Value::Null);
            }
        }
        Some(Value::String(_)) => {
            let text = format!("expected {BODY}, got text: give its fields, docrelay encodes them");
            reader.problem("authorizationBody", text);
        }
        Some(other) => reader.expected("authorizationBody", BODY, other),
        None => {}
    }
}

/// What is said of a login, in canonical words.
fn login(reader: &Reader<'_>) -> Json {
    // A body that is none was told already.
    let fits = |canonical: &str, value: &Value| canonical != "body" || value.is_object();
    object(LOGIN.map(|(name, canonical)| (canonical, reader.given(name).filter(|value| fits(canonical, value)))))
}

/// What is told again of a login that is never called: without its body, and with the values of its headers hidden.
fn aside(login: &Json) -> Json {
    let login = login.clone().into();
    let hidden = secrets::hidden(&object([("auth", Some(&object([("login", Some(&login))]).into()))]));
    let mut login = at(&hidden, &["auth", "login"]).and_then(Value::as_object).cloned().unwrap_or_default();
    login.shift_remove("body");
    login
}

fn with_auth(mut document: Json, mut auth: Json, login: Option<Json>) -> Json {
    auth.extend(login.map(|login| ("login".to_owned(), login.into())));
    if !auth.is_empty() {
        document.insert("auth".to_owned(), auth.into());
    }
    document
}

/// An object of those fields that are there.
fn object<const N: usize>(fields: [(&str, Option<&Value>); N]) -> Json {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect()
}

#[cfg(test)]
mod tests;
