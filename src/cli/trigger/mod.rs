//! `hooktide trigger`: sends an event as a provider would send it, signed, to a server or to any URL.
//!
//! The command works offline. The program contains what providers send (`provider::samples`) and how they sign. A
//! source's kind comes from the configuration on this machine or from the server. Its secret comes from that
//! configuration or from the user, because a server never returns a secret.

mod placeholders;
mod provider_request;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use hyper::StatusCode;
use serde_json::{Map, Value};
use url::Url;

use super::client::{ClientError, local_url};
use super::error::CliError;
use super::input::{self, SecretArgs};
use super::signing::{recipe_of_kind, scheme_of};
use super::{Client, ClientArgs, ServerArgs, block_on, output, parse};
use crate::app::CompiledConfig;
use crate::config::{Environment, URL_VARIABLE};
use crate::inbound::provider::{RawRecipe, recipe, samples};
use crate::inbound::source::{SecretSetting, SourceSettings, recipe_of};
use crate::model::kind::PARTNER;
use crate::model::path::SOURCES;
use crate::model::{Secret, Timestamp};
use crate::runtime::{Clock, Random};
use crate::signature::{OutgoingRequest, SignError};
use placeholders::PlaceholderFiller;
pub(super) use provider_request::signed_places;
use provider_request::{ProviderRequest, build_request};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a source, or a kind of provider
    #[arg(value_name = "SOURCE", value_parser = parse::path_part)]
    source: String,
    /// The event's type as the provider spells it, such as orders/create or payment_intent.succeeded; without it the
    /// types of which there are samples are listed
    #[arg(value_name = "TYPE")]
    event_type: Option<String>,
    /// Send here, in place of the source's own place at the server
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How to sign, if it is not the source's own kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
    /// Put this into the body, by name; null takes out: JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    data: Option<String>,
    /// How many, each with ids of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Print the request, and send nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// The source to imitate and the URL to send to.
struct TriggerTarget {
    kind: String,
    recipe: RawRecipe,
    secret: Option<Secret>,
    /// The URL that requests are sent to.
    url: Url,
    /// The URL that a sender signs, without a query.
    signed_url: String,
}

pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    run_with(args, environment, &mut io::stdin(), out)
}

fn run_with(
    args: &Args,
    environment: &Environment,
    stdin: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let Some(event_type) = &args.event_type else {
        list(args, environment, out)?;
        return Ok(ExitCode::SUCCESS);
    };
    if args.secret.reads_input() && args.data.as_deref() == Some("-") {
        return Err(CliError::StdinUsedTwice("the secret and the data"));
    }
    let given = args.secret.read(environment, stdin)?;
    let data: Option<Value> = args.data.as_deref().map(|data| input::json(data, stdin)).transpose()?;
    let target = TriggerTarget::find(args, environment, given)?;
    let scheme = scheme_of(&target.recipe)?;
    if target.secret.is_none() && scheme.needs_secret() {
        let of = format!("{}, of which no secret is known here,", args.source);
        return Err(CliError::SecretRequired { of });
    }
    let secret = target.secret.clone().unwrap_or_else(|| Secret::new(""));
    let clock = Clock::system(Timestamp::default());
    let mut random = Random::system();
    let mut all_taken = true;
    for _ in 0..args.count {
        let now = clock.now();
        let mut filler = PlaceholderFiller::new(event_type, now, &mut random);
        let request = build_request(&target.kind, &target.recipe, data.as_ref(), &mut filler);
        let mut outgoing = target.outgoing(&request)?;
        scheme.sign(&secret, &mut outgoing, now)?;
        if args.print {
            show(&target, &request, &outgoing, out)?;
        } else {
            all_taken &= send(&target, &request, outgoing, args.client.json, out)?;
        }
    }
    Ok(if all_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl TriggerTarget {
    /// Finds the source by its name: in the configuration on this machine, on the server, or as a provider kind.
    fn find(args: &Args, environment: &Environment, given: Option<Secret>) -> Result<Self, CliError> {
        let of_kind = args.kind.as_deref().map(recipe_of_kind).transpose()?;
        // If all values are given as options, neither a configuration nor a server is needed.
        let is_fully_specified =
            args.to.is_some() && (of_kind.is_some() || recipe(&args.source).is_some() && given.is_some());
        let setup = if is_fully_specified { None } else { Some(setup(args, environment)?) };
        let own = setup.as_ref().and_then(|setup| settings(setup, &args.source));
        let secret = given.or_else(|| own.and_then(secret));
        let mut url = own.and_then(|own| own.url.clone());
        let mut found = own.and_then(|own| Some((own.kind.clone(), recipe_of(own)?)));
        if found.is_none() && !is_fully_specified && recipe(&args.source).is_none_or(|_| args.to.is_none()) {
            let view = fetch_source(args, environment)?;
            url = view.as_ref().and_then(|view| view.get("url")?.as_str().map(str::to_owned));
            found = view.as_ref().and_then(recipe_of_view);
        }
        if let Some(recipe) = of_kind {
            found = Some((args.kind.clone().unwrap_or_default(), recipe.clone()));
        }
        let by_name = || Some((args.source.clone(), recipe(&args.source)?.clone()));
        let trigger = |problem| CliError::Trigger { source_name: args.source.clone(), problem };
        let (kind, recipe) = found.or_else(by_name).ok_or_else(|| {
            trigger("no source of this name is configured here or known to the server, and no kind of provider has it (--kind)")
        })?;
        if kind == PARTNER && args.to.is_none() {
            return Err(trigger("a partner's URL holds its token, which nobody knows but the partner: --to"));
        }
        let to = match (&args.to, &setup) {
            (Some(to), _) => to.clone(),
            (None, setup) => format!("{}/api/v1/webhooks/{}", server(args, environment, setup.as_ref()), args.source),
        };
        let parsed = Url::parse(&to).ok().filter(Url::has_host);
        let target = parsed.ok_or(CliError::Url { url: to })?;
        let mut plain = target.clone();
        plain.set_query(None);
        let signed_url = url.filter(|_| args.to.is_none()).unwrap_or_else(|| plain.into());
        Ok(Self { kind, recipe, secret, url: target, signed_url })
    }

    /// Builds the unsigned request.
    fn outgoing(&self, request: &ProviderRequest) -> Result<OutgoingRequest, CliError> {
        let mut pairs = url::form_urlencoded::Serializer::new(self.url.query().unwrap_or_default().to_owned());
        pairs.extend_pairs(&request.query);
        let query = Some(pairs.finish()).filter(|query| !query.is_empty());
        let headers =
            request.header_map().map_err(|name| SignError::UnwritableLocation(format!("header:{name}").into()))?;
        Ok(OutgoingRequest {
            method: "POST".into(),
            url: self.signed_url.clone(),
            query,
            headers,
            body: request.body.clone(),
        })
    }

    /// The URL of a request. If the event type is part of the path, it follows the source's URL.
    fn address(&self, request: &ProviderRequest) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        let front = url.as_str().trim_end_matches('/');
        if request.path.is_empty() { url.to_string() } else { format!("{front}/{}", request.path) }
    }
}

/// Loads the configuration of the server on this machine, with its sources compiled.
fn setup(args: &Args, environment: &Environment) -> Result<CompiledConfig, CliError> {
    let (config, data_dir) = (args.client.config.clone(), args.client.data_dir.clone());
    let server = ServerArgs { config, data_dir, ..ServerArgs::default() };
    Ok(CompiledConfig::load(&server.loader(false, environment.clone()))?)
}

fn settings<'s>(setup: &'s CompiledConfig, name: &str) -> Option<&'s SourceSettings> {
    setup.sources.iter().map(|source| &source.settings).find(|settings| settings.name == name)
}

/// The first secret that is valid for every request; `None` if there is none.
fn secret(settings: &SourceSettings) -> Option<Secret> {
    let value = |setting: &SecretSetting| match setting {
        SecretSetting::Text(secret) => Some(secret.clone()),
        SecretSetting::Table(table) => table.value.clone().filter(|_| table.when.is_none()),
    };
    settings.secrets.iter().find_map(value)
}

/// Reads the source from the server; `None` if the server does not know the name or cannot be called.
fn fetch_source(args: &Args, environment: &Environment) -> Result<Option<Value>, CliError> {
    // A provider kind can be sent to a remote server without a key.
    let Ok(client) = Client::try_new(&args.client, environment, false) else { return Ok(None) };
    let asked = block_on(async { Ok(client.get(&format!("{SOURCES}/{}", args.source)).await) })?;
    match asked {
        Ok(answer) => Ok(serde_json::from_slice(&answer).map_err(ClientError::Answer)?),
        Err(ClientError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
        Err(ClientError::Connect { .. }) if args.to.is_some() || args.print => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The kind and recipe of a source from its API representation.
fn recipe_of_view(view: &Value) -> Option<(String, RawRecipe)> {
    let shown = ["name", "kind", "verify", "type", "tolerance"];
    let members = shown.iter().filter_map(|name| Some(((*name).to_owned(), view.get(name)?.clone())));
    let members = members.filter(|(_, value)| !value.is_null()).collect::<Map<String, Value>>();
    let settings: SourceSettings = serde_json::from_value(members.into()).ok()?;
    Some((settings.kind.clone(), recipe_of(&settings)?))
}

/// The base URL of the server's ingest listener.
fn server(args: &Args, environment: &Environment, setup: Option<&CompiledConfig>) -> String {
    let configured = args.client.url.as_deref().or_else(|| environment.get(URL_VARIABLE));
    let url = configured.map(str::to_owned).or_else(|| setup.map(|setup| local_url(&setup.config, true)));
    url.unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Prints the request as it would be sent.
fn show(
    target: &TriggerTarget,
    request: &ProviderRequest,
    outgoing: &OutgoingRequest,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let query = outgoing.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    writeln!(out, "POST {}{query}", target.address(request))?;
    // Header names in the provider's spelling, where it is known.
    for (name, value) in &outgoing.headers {
        let spelled =
            request.headers.iter().map(|(known, _)| known).find(|known| known.eq_ignore_ascii_case(name.as_str()));
        writeln!(
            out,
            "{}: {}",
            spelled.map_or(name.as_str(), String::as_str),
            String::from_utf8_lossy(value.as_bytes())
        )?;
    }
    writeln!(out)?;
    out.write_all(&outgoing.body)?;
    Ok(writeln!(out)?)
}

/// Sends the request and prints the response. Returns whether the request was accepted.
fn send(
    target: &TriggerTarget,
    request: &ProviderRequest,
    outgoing: OutgoingRequest,
    json: bool,
    out: &mut dyn Write,
) -> Result<bool, CliError> {
    let client = Client::without_key(&target.address(request))?;
    let OutgoingRequest { headers, query, body, .. } = outgoing;
    let (status, answer) = block_on(async { Ok(client.post_raw(headers, query.as_deref(), body).await?) })?;
    if json {
        out.write_all(&answer)?;
        writeln!(out)?;
        return Ok(status.is_success());
    }
    let text = String::from_utf8_lossy(&answer);
    let parsed: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
    let result = parsed.get("id").or_else(|| parsed.get("detail")).and_then(Value::as_str);
    let duplicate = parsed.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
    let line = output::visible(result.unwrap_or_else(|| text.lines().next().unwrap_or_default()));
    let note = match (duplicate, request.sample) {
        (true, _) => " (duplicate)",
        (false, true) => "",
        (false, false) => " (there is no sample of this type: a generic event)",
    };
    writeln!(out, "{} {line}{note}", status.as_u16())?;
    Ok(status.is_success())
}

/// Lists the event types that have samples.
fn list(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let setup = || setup(args, environment);
    let named = match &args.kind {
        Some(kind) => Some(kind.clone()),
        None if recipe(&args.source).is_some() => None,
        None => settings(&setup()?, &args.source).map(|own| own.kind.clone()),
    };
    let kind = named.unwrap_or_else(|| args.source.clone());
    let recipe = recipe_of_kind(&kind)?;
    let types = samples(&kind).iter().map(|sample| sample.event_type);
    types.into_iter().try_for_each(|event_type| writeln!(out, "{event_type}"))?;
    if samples(&kind).is_empty() {
        let example = if recipe.example.is_empty() { String::new() } else { format!(", such as {}", recipe.example) };
        writeln!(out, "{kind} has no samples; any type makes a generic event{example}")?;
    }
    Ok(())
}

/// A new message id in the format of Standard Webhooks senders.
pub(super) fn new_message_id(now: Timestamp, random: &mut Random) -> String {
    PlaceholderFiller::new("", now, random).text("msg_%{alnum:27}")
}

#[cfg(test)]
mod tests;
