//! Which values of a subscription's JSON are secrets: how they are told from the rest, hidden, and kept when a patch gives
//! back what hides them. Pure.

use serde_json::{Map, Value};
use url::Url;

use super::{
    merge::{merge, rename_headers},
    problem::FieldError,
};
use crate::domain::OPEN_HEADERS;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

/// What asks for a new signing secret.
pub(super) const GENERATE: &str = "generate";

/// Secrets as a whole. A login's body may hold anything.
const WHOLE: [&[&str]; 4] =
    [&["auth", "authorization"], LOGIN_BODY, &["auth", "oauth2", "client_secret"], SIGNING_SECRETS];

/// Objects of headers: every value that is not an open one's is a secret.
const HEADERS: [&[&str]; 2] = [&["target", "headers"], &["auth", "login", "headers"]];

/// Addresses: their passwords are secrets.
const URLS: [&[&str]; 3] = [TARGET_URL, LOGIN_URL, TOKEN_URL];
const TARGET_URL: &[&str] = &["target", "url"];
const LOGIN_URL: &[&str] = &["auth", "login", "url"];
const TOKEN_URL: &[&str] = &["auth", "oauth2", "token_url"];

/// What deliveries are signed with. Whoever knows one can sign in docrelay's name, so the old receiver's are not the new one's.
const SIGNING_SECRETS: &[&str] = &["signing_secrets"];

/// What a login is sent. It may hold anything, and is one secret: a patch replaces it, and nothing is laid over it.
const LOGIN_BODY: &[&str] = &["auth", "login", "body"];

/// Where something is in a JSON object: the names on the way to it.
pub(super) type Path = Vec<String>;

/// A subscription's JSON.
pub(super) type Json = Map<String, Value>;

/// Where the secrets are that are set.
pub(super) fn places(whole: &Json) -> Vec<Path> {
    let mut places: Vec<Path> = Vec::new();
    for names in WHOLE.into_iter().filter(|names| at(whole, names).is_some()) {
        places.push(owned(names));
    }
    for names in HEADERS {
        let Some(Value::Object(headers)) = at(whole, names) else { continue };
        let secret = headers.keys().filter(|name| !OPEN_HEADERS.iter().any(|open| open.eq_ignore_ascii_case(name)));
        places.extend(secret.map(|name| [owned(names), vec![name.clone()]].concat()));
    }
    let has_password = |names: &&[&str]| url_at(whole, names).is_some_and(|url| url.password().is_some());
    places.extend(URLS.into_iter().filter(has_password).map(owned));
    places
}

/// The same with every secret hidden.
#[must_use]
pub(super) fn hidden(whole: &Json) -> Json {
    let mut hidden = whole.clone();
    for place in places(whole) {
        if let Some(value) = at_mut(&mut hidden, &place) {
            *value = mask(value, is_url(&place));
        }
    }
    hidden
}

/// What is not secret, and what is: laid over the first, the second makes it whole.
#[must_use]
pub(super) fn split(whole: &Json) -> (Json, Option<Json>) {
    let (mut open, mut secret) = (hidden(whole), Json::new());
    for place in places(whole) {
        let Some(value) = at(whole, &place).cloned() else { continue };
        if !is_url(&place) {
            remove(&mut open, &place);
        }
        put(&mut secret, &place, value);
    }
    let secret = (!secret.is_empty()).then_some(secret);
    (open, secret)
}

/// What becomes of a subscription by a merge patch. A new one is a patch of nothing. Beside it is told what is wrong with
/// its secrets.
pub(super) fn patched(stored: &Json, patch: &Json) -> (Json, Result<(), Vec<FieldError>>) {
    let mut stored = stored.clone();
    rename_headers(&mut stored, patch);
    let mut new = stored.clone();
    if at(patch, LOGIN_BODY).is_some() {
        remove(&mut new, &owned(LOGIN_BODY));
    }
    merge(&mut new, patch);
    // What is left of it says nothing, and nothing is what leaving it out says.
    if new.get("auth").and_then(Value::as_object).is_some_and(Map::is_empty) {
        new.shift_remove("auth");
    }
    let kept = keep(&stored, patch, &mut new);
    (new, kept)
}

/// Puts the stored secrets back where a patch left them alone, or gave back what hides them.
///
/// # Errors
/// There is nothing stored to keep, or it would go to another address than it was given for.
fn keep(stored: &Json, patch: &Json, new: &mut Json) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    for place in places(new) {
        let old = at(stored, &place).cloned();
        let Some(value) = at_mut(new, &place) else { continue };
        if place == LOGIN_BODY && !value.is_string() && hides_inside(value) {
            let text =
                format!("{HIDDEN:?} keeps nothing inside it: give the body as a whole, or {HIDDEN:?} in its place");
            errors.push(FieldError::at(pointer(&place), text));
            continue;
        }
        let kept = match restored(value, old.as_ref(), is_url(&place)) {
            Restored::Given => at(patch, &place).is_none(),
            Restored::Kept(back) => {
                *value = back;
                true
            }
            Restored::Nothing => {
                let text = format!("{HIDDEN:?} keeps a stored secret, and none is stored: give the secret");
                errors.push(FieldError::at(pointer(&place), text));
                continue;
            }
        };
        if kept && goes_elsewhere(&place, stored, new) {
            let text = "must be given again: the address that it is for has changed its scheme, host or port";
            let or_new = if place == SIGNING_SECRETS { ", or made anew with \"generate\"" } else { "" };
            errors.push(FieldError::at(pointer(&place), format!("{text}{or_new}")));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Makes the signing secrets that are asked for, and tells which they are: their positions, and themselves.
///
/// # Errors
/// What `fresh` says.
pub(super) fn generate<E>(
    new: &mut Json,
    mut fresh: impl FnMut() -> Result<String, E>,
) -> Result<Vec<(usize, String)>, E> {
    let mut made = Vec::new();
    let Some(Value::Array(secrets)) = new.get_mut("signing_secrets") else { return Ok(made) };
    for (position, secret) in secrets.iter_mut().enumerate().filter(|(_, secret)| *secret == GENERATE) {
        let text = fresh()?;
        *secret = Value::String(text.clone());
        made.push((position, text));
    }
    Ok(made)
}

/// What a value of a patch is to become.
enum Restored {
    /// Itself: a value that hides nothing.
    Given,
    /// What is stored.
    Kept(Value),
    /// It hides something, and there is nothing.
    Nothing,
}

fn restored(value: &Value, old: Option<&Value>, is_url: bool) -> Restored {
    match value {
        Value::String(text) if is_url => match hides_password(text) {
            Some(url) => match old.and_then(Value::as_str).and_then(|old| with_password_of(url, old)) {
                Some(back) => Restored::Kept(Value::String(back)),
                None => Restored::Nothing,
            },
            None => Restored::Given,
        },
        Value::String(text) if text == HIDDEN => old.cloned().map_or(Restored::Nothing, Restored::Kept),
        // Signing secrets: the n-th that is hidden is the n-th that is stored.
        Value::Array(items) if items.iter().any(|item| item == HIDDEN) => {
            let mut stored = old.and_then(Value::as_array).into_iter().flatten();
            let back =
                items.iter().map(|item| if item == HIDDEN { stored.next().cloned() } else { Some(item.clone()) });
            back.collect::<Option<Vec<_>>>().map_or(Restored::Nothing, |back| Restored::Kept(Value::Array(back)))
        }
        _ => Restored::Given,
    }
}

/// Whether the addresses that a secret is sent to, or that get what it opens, are others than they were.
fn goes_elsewhere(place: &[String], stored: &Json, new: &Json) -> bool {
    let names: Vec<&str> = place.iter().map(String::as_str).collect();
    let addresses: &[&[&str]] = match names.as_slice() {
        ["auth", "login", ..] => &[LOGIN_URL, TARGET_URL],
        ["auth", "oauth2", ..] => &[TOKEN_URL, TARGET_URL],
        _ => &[TARGET_URL],
    };
    addresses.iter().any(|address| {
        let [before, after] = [stored, new].map(|json| url_at(json, address).map(|url| url.origin()));
        after.is_some() && before != after
    })
}

/// Whether something in a value hides a secret.
fn hides_inside(value: &Value) -> bool {
    match value {
        Value::String(text) => text == HIDDEN,
        Value::Array(items) => items.iter().any(hides_inside),
        Value::Object(fields) => fields.values().any(hides_inside),
        _ => false,
    }
}

fn mask(value: &Value, is_url: bool) -> Value {
    match value {
        Value::Array(items) => Value::Array(vec![Value::from(HIDDEN); items.len()]),
        Value::String(text) if is_url => Value::String(without_password(text).unwrap_or_else(|| HIDDEN.to_owned())),
        _ => Value::from(HIDDEN),
    }
}

/// A URL with its password hidden; `None` for everything else.
#[must_use]
pub(super) fn without_password(text: &str) -> Option<String> {
    let mut url = web_url(text)?;
    url.password()?;
    url.set_password(Some(HIDDEN)).ok()?;
    Some(url.into())
}

fn hides_password(text: &str) -> Option<Url> {
    web_url(text).filter(|url| url.password() == Some(HIDDEN))
}

fn with_password_of(mut url: Url, old: &str) -> Option<String> {
    let old = web_url(old)?;
    // It is encoded already, and encoding it again changes nothing: every `%` of it stays.
    url.set_password(Some(old.password()?)).ok()?;
    Some(url.into())
}

fn web_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

fn is_url(place: &[String]) -> bool {
    URLS.iter().any(|names| *names == place)
}

fn url_at(whole: &Json, names: &[&str]) -> Option<Url> {
    web_url(at(whole, names)?.as_str()?)
}

fn owned(names: &[&str]) -> Path {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A place as a JSON Pointer.
pub(super) fn pointer(place: &[String]) -> String {
    place.iter().flat_map(|name| ["/".to_owned(), name.replace('~', "~0").replace('/', "~1")]).collect()
}

/// What stands at a place, unless it is `null`.
pub(super) fn at<'a>(whole: &'a Json, names: &[impl AsRef<str>]) -> Option<&'a Value> {
    let (first, rest) = names.split_first()?;
    let value = whole.get(first.as_ref()).filter(|value| !value.is_null())?;
    if rest.is_empty() { Some(value) } else { at(value.as_object()?, rest) }
}

fn at_mut<'a>(whole: &'a mut Json, names: &[String]) -> Option<&'a mut Value> {
    let (first, rest) = names.split_first()?;
    let value = whole.get_mut(first)?;
    if rest.is_empty() { Some(value) } else { at_mut(value.as_object_mut()?, rest) }
}

fn remove(whole: &mut Json, names: &[String]) {
    if let Some((last, [])) = names.split_first() {
        whole.shift_remove(last);
    } else if let Some((first, rest)) = names.split_first()
        && let Some(Value::Object(inner)) = whole.get_mut(first)
    {
        remove(inner, rest);
    }
}

fn put(whole: &mut Json, names: &[String], value: Value) {
    let Some((first, rest)) = names.split_first() else { return };
    if rest.is_empty() {
        whole.insert(first.clone(), value);
    } else if let Value::Object(inner) = whole.entry(first.clone()).or_insert_with(|| Value::Object(Json::new())) {
        put(inner, rest, value);
    }
}

#[cfg(test)]
mod tests;
