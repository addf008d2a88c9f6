//! The OpenAPI document: what is committed, printed and served is one, and what it says is true.

use docrelay::api::{kind::Kind, openapi};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Served, answer};
use crate::{
    store::Database,
    support::broker::{docrelay, ran},
};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Path, method and what is said about it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, said)| (path.clone(), method.clone(), said.clone()))
    });
    all.collect()
}

/// A path with an id in it.
fn filled(path: &str, id: &str) -> String {
    path.replace("{id}", id)
}

/// Checks that an answer is as the document says.
#[track_caller]
fn check(document: &Value, said: &Value, answer: &Answer) {
    let response = &said["responses"][answer.status.as_str()];
    assert!(response.is_object(), "the document knows no {} here: {answer:?}", answer.status);
    let Some(content_type) = answer.headers.get("content-type") else {
        assert!(response["content"].is_null() && answer.text.is_empty(), "{answer:?}");
        return;
    };
    let content = &response["content"][content_type.to_str().unwrap()];
    assert!(content.is_object(), "the document knows no {content_type:?} here");
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": document["components"],
        "allOf": [content["schema"]],
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&answer.json()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}: {answer:?}");
    for header in response["headers"].as_object().into_iter().flatten() {
        assert!(answer.headers.contains_key(header.0.to_lowercase()), "{} is missing: {answer:?}", header.0);
    }
}

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_printed_and_served() {
    let printed = ran(docrelay(&["openapi"])).await.fine();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == printed, "write it anew: docrelay openapi > docs/openapi.json");
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let answer = answer(served.request(Method::GET, "/openapi.json")).await;
    assert_eq!(answer.json(), serde_json::from_str::<Value>(&printed).unwrap());
    served.end().await;
}

#[tokio::test]
async fn every_operation_is_served_and_no_other_method() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let document = openapi::document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let request = served.request(method.to_uppercase().parse().unwrap(), &filled(path, "x"));
            let answer = answer(request.header("content-type", "application/json").body("{}")).await;
            if let Some(said) = methods.get(method) {
                answer.problem(401, "unauthorized");
                check(&document, said, &answer);
            } else {
                answer.problem(405, "method-not-allowed");
                let allow = answer.headers["allow"].to_str().unwrap().to_lowercase();
                assert!(methods.as_object().unwrap().keys().all(|method| allow.contains(method.as_str())), "{allow}");
            }
        }
    }
    served.end().await;
}

#[tokio::test]
async fn every_example_of_a_request_is_accepted_and_every_answer_is_as_the_document_says() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let operator = served.operators_key().await;
    let document = openapi::document();
    let mut examples = 0;
    for (path, method, said) in operations(&document) {
        let bodies = said["requestBody"]["content"].as_object().cloned().unwrap_or_default();
        let bodies = bodies.into_iter().flat_map(|(media_type, content)| {
            let all = content["examples"].as_object().unwrap().clone();
            all.into_iter().map(move |(_, example)| Some((media_type.clone(), example["value"].clone())))
        });
        let bodies: Vec<_> = if said["requestBody"].is_null() { vec![None] } else { bodies.collect() };
        for body in bodies {
            examples += 1;
            // An organization of its own: it may have one of a kind only.
            let organization = format!("acme-{examples}");
            let id = if path.contains("{id}") {
                stored(&served, &operator, &path, &organization).await
            } else {
                String::new()
            };
            let request = served.request(method.to_uppercase().parse().unwrap(), &filled(&path, &id));
            let mut request = request.bearer_auth(&operator);
            if let Some((media_type, mut body)) = body {
                if method == "post" && !path.contains("{id}") {
                    // Each example of an organization's key leaves it out.
                    body["organization"] = json!(organization);
                }
                request = request.header("content-type", media_type).body(body.to_string());
            }
            let answer = answer(request).await;
            assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
            check(&document, &said, &answer);
        }
    }
    assert!(examples > 5, "{examples}");
    served.end().await;
}

/// Makes what an operation at this path is about, and gives its id.
async fn stored(served: &Served, operator: &str, path: &str, organization: &str) -> String {
    let (path, _) = path.split_once("/{id}").unwrap();
    if path == "/v1/targets" {
        // It comes to be with whoever leads there.
        Box::pin(stored(served, operator, "/v1/subscriptions/{id}", organization)).await;
        let all = served.get(operator, &format!("{path}?organization={organization}")).await.json();
        return all["items"][0]["id"].as_str().unwrap().to_owned();
    }
    let mut body = match path {
        "/v1/subscriptions" => with_signing_secret(),
        "/integrations" => {
            json!({"type": "webhook", "events": ["document_text"], "target": "http://erp.example/hooks"})
        }
        _ => json!({"name": "w", "type": 0, "method": "POST", "url": "http://erp.example/:id"}),
    };
    body["organization"] = json!(organization);
    let made = served.post(operator, path, &body).await;
    assert!(made.status.is_success(), "{path}: {made:?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

fn with_signing_secret() -> Value {
    let mut body = super::little();
    body["signing_secrets"] = json!(["generate"]);
    body
}

#[test]
fn every_operation_parameter_and_field_is_described_and_has_an_example() {
    let document = openapi::document();
    let mut problems = Vec::new();
    for (path, method, said) in operations(&document) {
        for name in ["operationId", "summary", "description"] {
            if said[name].as_str().is_none_or(str::is_empty) {
                problems.push(format!("{method} {path}: no {name}"));
            }
        }
        for parameter in said["parameters"].as_array().unwrap() {
            if parameter["description"].is_null() || parameter["example"].is_null() {
                problems.push(format!("{method} {path}: {parameter}"));
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        undescribed(&document, name, schema, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Collects the properties below a schema that have no description or no example, of their own or of what they refer to.
fn undescribed(document: &Value, place: &str, schema: &Value, problems: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let referred = property["$ref"].as_str().map(|it| document.pointer(it.trim_start_matches('#')).unwrap());
        let has = |word: &str| !property[word].is_null() || referred.is_some_and(|it| !it[word].is_null());
        if !has("description") || !has("examples") {
            problems.push(format!("{place}: description {}, examples {}", has("description"), has("examples")));
        }
        undescribed(document, &place, property, problems);
    }
}

#[test]
fn every_kind_of_problem_stands_in_the_document_with_its_example() {
    let document = openapi::document();
    let text = Value::Array(operations(&document).into_iter().map(|(_, _, said)| said).collect()).to_string();
    // What concerns no operation: a path or a method that is none.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::MethodNotAllowed) {
        let example = &document["components"]["examples"][kind.name()]["value"];
        assert_eq!(example["type"], kind.reference(), "{kind:?}");
        assert!(text.contains(&format!("#/components/examples/{}\"", kind.name())), "{kind:?}");
    }
}
