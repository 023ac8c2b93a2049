//! `hooktide sign` and `hooktide verify`: sign a body or verify its signature, in any scheme and without a server.

use std::io::{Read, Write};
use std::process::ExitCode;

use hyper::HeaderMap;
use hyper::http::{HeaderName, HeaderValue};
use serde_json::json;

use super::error::CliError;
use super::input::{self, SecretArgs};
use super::output;
use super::parse::PastTime;
use super::trigger::{new_message_id, signed_places};
use crate::config::Environment;
use crate::inbound::provider::{RawRecipe, Recipe, recipe, recipes};
use crate::model::{Secret, Timestamp};
use crate::runtime::{Clock, Random};
use crate::signature::{OneOrMany, OutgoingRequest, Scheme, ValueLocation, VerifyError};

/// The arguments of both commands.
#[derive(Debug, clap::Args)]
struct SigningArgs {
    /// The body: text, @FILE, or - for standard input
    #[arg(value_name = "BODY")]
    body: String,
    /// Sign as this provider does: stripe, shopify, github, …
    #[arg(long, value_name = "KIND", required_unless_present = "scheme")]
    kind: Option<String>,
    /// Sign as this scheme says: JSON, or a file with it in JSON or TOML
    #[arg(long, value_name = "JSON|FILE", conflicts_with = "kind")]
    scheme: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
    /// The URL that is called, for schemes that sign it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A header of the request; may be given several times
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The request's method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// When, in place of now: a time, or how long ago, such as 10m
    #[arg(long, value_name = "T", value_parser = PastTime::parse)]
    time: Option<PastTime>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    #[command(flatten)]
    common: SigningArgs,
    /// Print a curl line that sends the request to --url
    #[arg(long, requires = "url", conflicts_with = "json")]
    curl: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    common: SigningArgs,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let pair = text.split_once(':').and_then(|(name, value)| {
        Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
    });
    pair.ok_or_else(|| "expected NAME:VALUE, as in X-Request: 1".to_owned())
}

/// A request, its signature scheme, and the secret.
struct SigningJob {
    recipe: RawRecipe,
    scheme: Scheme,
    secret: Option<Secret>,
    outgoing: OutgoingRequest,
    now: Timestamp,
}

impl SigningArgs {
    fn prepare(&self, environment: &Environment, stdin: &mut dyn Read) -> Result<SigningJob, CliError> {
        if self.secret.reads_input() && self.body == "-" {
            return Err(CliError::StdinUsedTwice("the secret and the body"));
        }
        let recipe = match (&self.kind, &self.scheme) {
            (Some(kind), _) => recipe_of_kind(kind)?.clone(),
            (None, scheme) => read_scheme(scheme.as_deref().unwrap_or_default())?,
        };
        let scheme = scheme_of(&recipe)?;
        let secret = self.secret.read(environment, stdin)?;
        if secret.is_none() && scheme.needs_secret() {
            return Err(CliError::SecretRequired { of: "the scheme".to_owned() });
        }
        if self.url.is_none() && scheme.needs_url() {
            return Err(CliError::UrlRequired);
        }
        let url = self.url.as_deref().unwrap_or_default();
        let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query.to_owned())));
        let mut headers = HeaderMap::new();
        headers.extend(self.headers.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
        let body = input::bytes(&self.body, stdin)?;
        let outgoing = OutgoingRequest { method: self.method.clone(), url: url.to_owned(), query, headers, body };
        let now = Clock::system(Timestamp::default()).now();
        Ok(SigningJob { recipe, scheme, secret, outgoing, now: self.time.map_or(now, |time| time.before(now)) })
    }
}

/// The recipe of a provider kind.
pub(super) fn recipe_of_kind(kind: &str) -> Result<&'static RawRecipe, CliError> {
    let names = || recipes().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    recipe(kind).ok_or_else(|| CliError::UnknownKind { kind: kind.to_owned(), known: names() })
}

/// The scheme of a recipe. The error contains all problems of the recipe.
pub(super) fn scheme_of(recipe: &RawRecipe) -> Result<Scheme, CliError> {
    let usable = Recipe::try_new(recipe).map(|recipe| recipe.scheme);
    usable.map_err(|wrong| CliError::Scheme(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

/// Reads a scheme given by the user: the text itself if it is a JSON object, else the file of that name.
fn read_scheme(text: &str) -> Result<RawRecipe, CliError> {
    let read;
    let text = if text.trim_start().starts_with('{') {
        text
    } else {
        let unreadable = |source| CliError::Payload { from: text.to_owned(), source };
        read = std::fs::read_to_string(text).map_err(unreadable)?;
        &read
    };
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| CliError::Scheme(e.to_string()))
    } else {
        toml_edit::de::from_str(text).map_err(|e| CliError::Scheme(e.message().to_owned()))
    }
}

pub(super) fn sign(
    args: &SignArgs,
    environment: &Environment,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let SigningJob { recipe, scheme, secret, mut outgoing, now } = args.common.prepare(environment, stdin)?;
    let before = outgoing.clone();
    add_ids(&recipe, &scheme, &mut outgoing.headers, now);
    // A scheme that cannot sign without a secret returns an error itself.
    scheme.sign(&secret.unwrap_or_else(|| Secret::new("")), &mut outgoing, now)?;
    if args.curl {
        return curl(&args.common.body, &before, &outgoing, out);
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let body = (outgoing.body != before.body).then(|| String::from_utf8_lossy(&outgoing.body).into_owned());
    let query = outgoing.query.as_ref().filter(|query| Some(*query) != before.query.as_ref());
    if args.common.json {
        let pairs = outgoing.headers.iter().map(|(name, value)| (name.to_string(), text(value).into()));
        let headers: serde_json::Map<_, _> = pairs.collect();
        let answer = json!({ "headers": headers, "query": query, "body": body });
        return Ok(writeln!(out, "{answer}")?);
    }
    for (name, value) in &outgoing.headers {
        writeln!(out, "{name}: {}", output::visible(&text(value)))?;
    }
    if let Some(query) = query {
        writeln!(out, "\nsigned with this query: {}", output::visible(query))?;
    }
    if let Some(body) = body {
        writeln!(out, "\n{body}")?;
    }
    Ok(())
}

/// Adds the ids that the scheme signs and that the headers do not contain.
fn add_ids(recipe: &RawRecipe, scheme: &Scheme, headers: &mut HeaderMap, now: Timestamp) {
    let mut places = signed_places(&recipe.verify);
    if scheme.needs_id() {
        match &recipe.id {
            Some(OneOrMany::One(place)) => places.push(place.clone()),
            Some(OneOrMany::Many(several)) => places.extend(several.iter().cloned()),
            None => (),
        }
    }
    for place in places {
        let Ok(ValueLocation::Header(names)) = place.parse::<ValueLocation>() else { continue };
        if let Some(first) = names.first().filter(|_| names.iter().all(|name| !headers.contains_key(name)))
            && let Ok(id) = HeaderValue::try_from(new_message_id(now, &mut Random::system()))
        {
            headers.insert(first.clone(), id);
        }
    }
}

/// Prints a curl command for a POSIX shell.
fn curl(
    argument: &str,
    before: &OutgoingRequest,
    outgoing: &OutgoingRequest,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let query = outgoing.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut line = String::from("curl");
    if outgoing.method != "POST" {
        line.extend([" -X ", &quoted(&outgoing.method)]);
    }
    line.extend([" ", &quoted(&format!("{}{query}", outgoing.url))]);
    if !outgoing.headers.contains_key(hyper::header::CONTENT_TYPE) {
        line.push_str(" -H 'content-type: application/json'");
    }
    for (name, value) in &outgoing.headers {
        line.extend([" -H ", &quoted(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))]);
    }
    let is_file = argument.starts_with('@') && outgoing.body == before.body;
    let data = if is_file {
        argument.to_owned()
    } else {
        String::from_utf8(outgoing.body.clone()).map_err(|_| CliError::NotText)?
    };
    // `--data` reads a file if the text begins with `@`; `--data-raw` does not. Neither form may drop a line end.
    line.extend([if is_file { " --data-binary " } else { " --data-raw " }, &quoted(&data)]);
    Ok(writeln!(out, "{line}")?)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub(super) fn verify(
    args: &VerifyArgs,
    environment: &Environment,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let SigningJob { scheme, secret, outgoing, now, .. } = args.common.prepare(environment, stdin)?;
    let checked = check(&scheme, secret.as_ref(), &outgoing, now)?;
    let reason = checked.err().map(|reason| reason.to_string());
    if args.common.json {
        writeln!(out, "{}", json!({ "valid": reason.is_none(), "reason": reason }))?;
    } else {
        writeln!(out, "{}", reason.as_ref().map_or_else(|| "valid".to_owned(), |why| format!("not valid: {why}")))?;
    }
    Ok(if reason.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(
    scheme: &Scheme,
    secret: Option<&Secret>,
    outgoing: &OutgoingRequest,
    now: Timestamp,
) -> Result<Result<(), VerifyError>, CliError> {
    let key = secret.map(|secret| scheme.key_of_any_length(secret)).transpose();
    let key = key.map_err(|wrong| CliError::Scheme(wrong.to_string()))?;
    Ok(scheme.verify(key.iter(), None, &outgoing.request(), now))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, dispatch};

    /// Runs a command whose secret is in a variable.
    fn run(words: &[&str]) -> (Result<bool, String>, String) {
        let environment = super::Environment::new([("SECRET".into(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())]);
        let cli = Cli::try_parse_from(std::iter::once(&"hooktide").chain(words)).unwrap();
        let mut out = Vec::new();
        let done = dispatch(cli, environment, &mut out).map(|code| code == super::ExitCode::SUCCESS);
        (done.map_err(|e| e.to_string()), String::from_utf8(out).unwrap())
    }

    /// The headers that `sign` printed, as arguments of `verify`.
    fn headers(printed: &str) -> Vec<String> {
        printed.lines().map(|line| format!("--header={line}")).collect()
    }

    #[test]
    fn signed_bodies_are_valid_and_changed_bodies_are_not() {
        for kind in ["stripe", "github", "shopify", "standard-webhooks", "slack", "square"] {
            let common = ["--kind", kind, "--secret-env", "SECRET", "--url", "https://hooks.example.com/x?a=1"];
            let (done, printed) = run(&[&["sign"], &common[..], &["{\"id\": 1}"]].concat());
            assert_eq!(done, Ok(true), "{kind}");
            let headers = headers(&printed);
            let given: Vec<&str> = headers.iter().map(String::as_str).collect();
            let (done, printed) = run(&[&["verify"], &common[..], &given, &["{\"id\": 1}"]].concat());
            assert_eq!((done, printed.as_str()), (Ok(true), "valid\n"), "{kind}");
            let (done, printed) = run(&[&["verify"], &common[..], &given, &["{\"id\": 2}"]].concat());
            assert_eq!(done, Ok(false), "{kind}");
            assert!(printed.starts_with("not valid: "), "{printed}");
        }
    }

    #[test]
    fn a_users_own_scheme_is_text_or_a_file() {
        let scheme = r#"{"scheme":"hmac","sig":"header:X-Acme","prefix":"sha256=","encoding":"hex"}"#;
        let (done, printed) = run(&["sign", "--scheme", scheme, "--secret-env", "SECRET", "hello"]);
        assert_eq!(done, Ok(true));
        assert!(printed.starts_with("x-acme: sha256="), "{printed}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scheme.toml");
        std::fs::write(&file, "scheme = \"hmac\"\nsig = \"header:X-Acme\"\nprefix = \"sha256=\"\nencoding = \"hex\"\n")
            .unwrap();
        let path = file.display().to_string();
        assert_eq!(run(&["sign", "--scheme", &path, "--secret-env", "SECRET", "hello"]), (Ok(true), printed));
    }

    #[test]
    fn a_curl_line_can_be_pasted() {
        let words = [
            "sign",
            "--kind",
            "github",
            "--secret-env",
            "SECRET",
            "--url",
            "http://127.0.0.1:8080/x",
            "--curl",
            "it's",
        ];
        let (done, printed) = run(&words);
        assert_eq!(done, Ok(true));
        assert!(
            printed.starts_with(
                "curl 'http://127.0.0.1:8080/x' -H 'content-type: application/json' -H 'x-hub-signature-256: sha256="
            ),
            "{printed}"
        );
        assert!(printed.ends_with(" --data-raw 'it'\\''s'\n"), "{printed}");
    }

    #[test]
    fn missing_values_are_reported() {
        for (words, wanted) in [
            (&["sign", "--kind", "stripe", "x"][..], "the scheme needs a secret: "),
            (
                &["sign", "--kind", "nobody", "--secret-env", "SECRET", "x"],
                "\"nobody\" is no kind of provider; known are ",
            ),
            (&["sign", "--kind", "square", "--secret-env", "SECRET", "x"], "this scheme signs the URL: --url"),
            (
                &["sign", "--scheme", r#"{"scheme":"hmac"}"#, "--secret-env", "SECRET", "x"],
                "the scheme cannot be used: ",
            ),
            (
                &["sign", "--kind", "stripe", "--secret", "-", "-"],
                "only one of the secret and the body can come from standard input",
            ),
        ] {
            let (done, _) = run(words);
            assert!(done.clone().unwrap_err().starts_with(wanted), "{done:?}");
        }
    }
}
