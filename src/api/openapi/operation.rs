//! One operation of the API: its route, and what the document says about it. A route comes from an operation only, so
//! there is none that the document does not know.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, routing::MethodRouter};
use serde_json::{Map, Value, json};

use super::super::{Api, kind::Kind, problem};

/// What any request with a key may be answered.
const ALWAYS: [Kind; 5] =
    [Kind::Unauthorized, Kind::TooManyWrongKeys, Kind::StoreAway, Kind::Overloaded, Kind::Internal];

/// What any request with a body may be answered.
const WITH_A_BODY: [Kind; 5] =
    [Kind::MalformedJson, Kind::RequestTimeout, Kind::TooLarge, Kind::UnsupportedMediaType, Kind::InvalidFields];

/// One operation.
pub(in crate::api) struct Operation {
    method: &'static str,
    path: &'static str,
    route: MethodRouter<Arc<Api>>,
    said: Value,
    problems: Vec<Kind>,
}

impl Operation {
    /// What `route` does with this method, as `get`, at this path. `id` is its name in programs, `summary` one line.
    pub(in crate::api) fn new(
        method: &'static str,
        path: &'static str,
        (id, tag): (&str, &str),
        summary: &str,
        route: MethodRouter<Arc<Api>>,
    ) -> Self {
        let said = json!({"operationId": id, "tags": [tag], "summary": summary, "parameters": [], "responses": {}});
        Self { method, path, route, said, problems: ALWAYS.to_vec() }
    }

    /// What there is to know about it.
    pub(in crate::api) fn describe(mut self, text: &str) -> Self {
        self.put("description", text.into());
        self
    }

    /// A parameter of the path, the query or the headers.
    pub(in crate::api) fn parameter(
        mut self,
        place: &str,
        name: &str,
        text: &str,
        schema: &Value,
        example: &Value,
    ) -> Self {
        if let Some(Value::Array(parameters)) = self.said.get_mut("parameters") {
            parameters.push(json!({
                "name": name, "in": place, "required": place == "path", "description": text, "schema": schema,
                "example": example,
            }));
        }
        self
    }

    /// The body, as one of the schemas, in any of these media types, with examples by name.
    pub(in crate::api) fn body(mut self, media_types: &[&str], schema: &str, examples: &Value) -> Self {
        let content = json!({"schema": reference(schema), "examples": examples});
        let content: Map<_, _> = media_types.iter().map(|it| ((*it).to_owned(), content.clone())).collect();
        self.put("requestBody", json!({"required": true, "content": content}));
        self.problems(&WITH_A_BODY)
    }

    /// What it answers when it is done: a status, what that means, and a schema with an example, unless there is no body.
    pub(in crate::api) fn answers(
        mut self,
        status: &str,
        text: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, Value)>,
    ) -> Self {
        let mut answer = json!({"description": text});
        if !headers.is_empty() {
            let headers = headers
                .iter()
                .map(|(name, text)| ((*name).to_owned(), json!({"description": text, "schema": {"type": "string"}})));
            put(&mut answer, "headers", headers.collect::<Map<_, _>>().into());
        }
        if let Some((schema, example)) = body {
            let content = json!({"application/json": {"schema": reference(schema), "example": example}});
            put(&mut answer, "content", content);
        }
        if let Some(responses) = self.said.get_mut("responses") {
            put(responses, status, answer);
        }
        self
    }

    /// Further problems that it may answer with.
    pub(in crate::api) fn problems(mut self, kinds: &[Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    /// Puts its route beside the others.
    pub(in crate::api) fn route(self, routes: Router<Arc<Api>>) -> Router<Arc<Api>> {
        routes.route(self.path, self.route)
    }

    /// Path, method, and what the document says about it.
    pub(super) fn document(mut self) -> (&'static str, &'static str, Value) {
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in self.problems {
            by_status.entry(kind.status().as_u16()).or_default().push(kind);
        }
        if let Some(responses) = self.said.get_mut("responses") {
            for (status, kinds) in by_status {
                put(responses, &status.to_string(), answer_of(&kinds));
            }
        }
        (self.path, self.method, self.said)
    }

    fn put(&mut self, name: &str, value: Value) {
        put(&mut self.said, name, value);
    }
}

/// An example of every kind of problem, by its name.
pub(super) fn problems() -> Value {
    let examples = Kind::ALL.map(|kind| {
        let example = json!({"summary": kind.title(), "description": kind.advice(), "value": kind.example()});
        (kind.name().to_owned(), example)
    });
    Value::Object(examples.into_iter().collect())
}

/// The answer with a status that stands for these kinds of problems.
fn answer_of(kinds: &[Kind]) -> Value {
    let titles: Vec<_> = kinds.iter().map(|kind| format!("{} (`{}`).", kind.title(), kind.name())).collect();
    let examples: Map<_, _> = kinds
        .iter()
        .map(|kind| (kind.name().to_owned(), json!({"$ref": format!("#/components/examples/{}", kind.name())})))
        .collect();
    json!({
        "description": titles.join(" "),
        "content": {problem::CONTENT_TYPE: {"schema": reference("Problem"), "examples": examples}},
    })
}

/// A schema of the document, by its name.
pub(in crate::api) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}
