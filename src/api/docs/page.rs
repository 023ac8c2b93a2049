//! The HTML pages: the API by operation, and the errors.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{Escaped, anchor};
use super::markdown;
use super::schema::Schemas;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// Responses that every operation may have. They are described once, on the page of errors.
const COMMON: [&str; 3] = ["BadRequest", "Unauthenticated", "Unavailable"];

/// One operation of the document.
struct OperationDoc<'a> {
    method: &'static str,
    path: &'a str,
    /// The parameters of the path.
    shared: &'a Value,
    of: &'a Value,
}

/// The page of the API, generated from the OpenAPI document.
pub(super) fn interface(document: &str) -> String {
    // The document is compiled in, and tests parse it.
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let schemas = Schemas(&document);
    let operations = operations(&document);
    let (mut nav, mut main) = (String::new(), String::new());
    let description = document["info"]["description"].as_str().unwrap_or_default();
    let _ = write!(main, "<h1>Hooktide’s interface</h1>{}", markdown::blocks(description));
    main.push_str("<p>The same for programs: <a href=\"/openapi.json\">openapi.json</a>, <a href=\"/openapi.yaml\">openapi.yaml</a>. What errors mean: <a href=\"/docs/errors\">errors</a>.</p>");
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        let about = tag["description"].as_str().unwrap_or_default();
        let place = anchor(name);
        let _ = write!(nav, "<h2><a href=\"#{place}\">{}</a></h2><ul>", Escaped(name));
        let _ = write!(main, "<h2 id=\"{place}\">{}</h2>{}", Escaped(name), markdown::blocks(about));
        for operation in operations.iter().filter(|operation| operation.of["tags"][0] == name) {
            operation.link(&mut nav);
            operation.section(schemas, &mut main);
        }
        nav.push_str("</ul>");
    }
    whole("Hooktide’s interface", &nav, &main)
}

/// The page of errors, generated from `docs/errors.md`.
pub(super) fn errors(text: &str) -> String {
    let mut nav = String::from("<h2><a href=\"/docs\">The interface</a></h2><h2>Errors</h2><ul>");
    for code in text.lines().filter_map(|line| line.strip_prefix("## ")) {
        let _ = write!(nav, "<li><a href=\"#{}\">{}</a></li>", anchor(code), Escaped(code));
    }
    nav.push_str("</ul>");
    whole("Errors", &nav, &markdown::blocks(text))
}

fn whole(title: &str, nav: &str, main: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\"><title>{}</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body><a class=\"skip\" \
         href=\"#main\">To the text</a><nav aria-label=\"Contents\">{nav}</nav><main id=\"main\">{main}</main></body></html>",
        Escaped(title)
    )
}

fn operations(document: &Value) -> Vec<OperationDoc<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let of_path = |(path, item)| {
        let of_method = move |method| {
            let of = Value::get(item, method)?;
            Some(OperationDoc { method, path: String::as_str(path), shared: &item["parameters"], of })
        };
        METHODS.into_iter().filter_map(of_method)
    };
    paths.flat_map(of_path).collect()
}

impl<'a> OperationDoc<'a> {
    fn place(&self) -> &'a str {
        self.of["operationId"].as_str().unwrap_or_default()
    }

    fn summary(&self) -> &'a str {
        self.of["summary"].as_str().unwrap_or_default()
    }

    fn link(&self, nav: &mut String) {
        let (place, method, summary) = (self.place(), self.method, Escaped(self.summary()));
        let _ = write!(nav, "<li><a href=\"#{place}\"><b class=\"{method}\">{method}</b> {summary}</a></li>");
    }

    fn section(&self, schemas: Schemas<'a>, out: &mut String) {
        let (place, method, path) = (self.place(), self.method, Escaped(self.path));
        let _ = write!(out, "<section id=\"{place}\"><h3>{}</h3>", Escaped(self.summary()));
        let _ = write!(out, "<p class=\"path\"><b class=\"{method}\">{method}</b> <code>{path}</code></p>");
        if let Some(description) = self.of["description"].as_str() {
            out.push_str(&markdown::blocks(description));
        }
        self.parameters(schemas, out);
        self.request(schemas, out);
        self.responses(schemas, out);
        out.push_str("</section>");
    }

    fn parameters(&self, schemas: Schemas<'a>, out: &mut String) {
        let mut rows = String::new();
        let all = [self.shared, &self.of["parameters"]].into_iter().filter_map(Value::as_array).flatten();
        for parameter in all.map(|parameter| schemas.resolve(parameter)) {
            let (name, place) = (&parameter["name"], &parameter["in"]);
            let _ = write!(
                rows,
                "<tr><th scope=\"row\"><code>{}</code> <span class=\"note\">{}</span></th><td><span class=\"type\">{}</span>",
                Escaped(name.as_str().unwrap_or_default()),
                Escaped(place.as_str().unwrap_or_default()),
                Escaped(&schemas.kind(&parameter["schema"])),
            );
            if let Some(choices) = schemas.resolve(&parameter["schema"])["enum"].as_array() {
                let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
                let _ = write!(rows, " <span class=\"note\">{}</span>", Escaped(&choices.join(" | ")));
            }
            if let Some(description) = parameter["description"].as_str() {
                let _ = write!(rows, "<div>{}</div>", markdown::blocks(description));
            }
            rows.push_str("</td></tr>");
        }
        if !rows.is_empty() {
            let _ = write!(out, "<h4>Parameters</h4><table class=\"fields\"><tbody>{rows}</tbody></table>");
        }
    }

    fn request(&self, schemas: Schemas<'a>, out: &mut String) {
        let body = schemas.resolve(&self.of["requestBody"]);
        for (media, content) in body["content"].as_object().into_iter().flatten() {
            let _ = write!(out, "<h4>Body <span class=\"note\">{}</span></h4>", Escaped(media));
            out.push_str(&schemas.table(&content["schema"]));
            example(content, out);
        }
    }

    fn responses(&self, schemas: Schemas<'a>, out: &mut String) {
        out.push_str("<h4>Answers</h4>");
        for (status, response) in self.of["responses"].as_object().into_iter().flatten() {
            let name = response["$ref"].as_str().and_then(|to| to.rsplit('/').next()).unwrap_or_default();
            if COMMON.contains(&name) {
                continue;
            }
            let response = schemas.resolve(response);
            let description = response["description"].as_str().unwrap_or_default();
            let class = if status.starts_with('2') { "good" } else { "bad" };
            let _ = write!(
                out,
                "<details><summary><b class=\"{class}\">{status}</b> {}</summary>",
                markdown::line(description)
            );
            for (media, content) in response["content"].as_object().into_iter().flatten() {
                let _ = write!(out, "<p class=\"note\">{}</p>", Escaped(media));
                if class == "good" {
                    out.push_str(&schemas.table(&content["schema"]));
                }
                example(content, out);
            }
            out.push_str("</details>");
        }
    }
}

fn example(content: &Value, out: &mut String) {
    let Some(example) = content.get("example") else { return };
    let text = match example {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    let _ = write!(out, "<pre><code>{}</code></pre>", Escaped(text.trim_end()));
}
