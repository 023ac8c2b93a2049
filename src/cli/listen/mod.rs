//! `hooktide listen`: receives events on this machine. Without a secret it creates a temporary webhook.

mod receiver;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::client::ClientError;
use super::error::CliError;
use super::{Client, ClientArgs, block_on, output, parse, webhook};
use crate::config::Environment;
use crate::model::path::WEBHOOKS;
use crate::model::{EventPattern, Secret, Timestamp};
use crate::runtime::Clock;
use crate::signature::SigningKey;
use receiver::Receiver;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Port on 127.0.0.1; 0 picks one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Verify with this secret, and make no webhook
    #[arg(long)]
    secret: Option<String>,
    /// Which events: a type, order.* or *; may be given several times
    #[arg(long, value_name = "PATTERN", default_value = "*", value_parser = parse::pattern)]
    events: Vec<String>,
    /// Answer every request with this status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    fail: Option<u16>,
    #[command(flatten)]
    client: ClientArgs,
}

/// A webhook that is deleted when the command ends.
struct TemporaryWebhook {
    client: Client,
    id: String,
}

/// The members of the created webhook that the command needs.
#[derive(serde::Deserialize)]
struct CreatedWebhook {
    id: String,
    secret: Secret,
}

pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        };
        run_until(stop, args, environment, out).await
    })
}

async fn run_until(
    stop: impl Future<Output = ()>,
    args: &Args,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|source| CliError::Listen { address, source })?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (secret, temporary) = if let Some(secret) = &args.secret {
        (Secret::new(secret.as_str()), None)
    } else {
        let client = Client::try_new(&args.client, environment, false)?;
        let (secret, temporary) = make_webhook(client, &url, &args.events).await?;
        (secret, Some(temporary))
    };
    let done = listen(args, &url, secret, temporary.as_ref(), listener, out, stop).await;
    // The webhook is deleted in every case.
    let removed = match temporary {
        Some(TemporaryWebhook { client, id }) => client.delete(&webhook::path(&id)).await.map(drop),
        None => Ok(()),
    };
    done.and(removed.map_err(CliError::from))
}

async fn make_webhook(client: Client, url: &str, events: &[String]) -> Result<(Secret, TemporaryWebhook), CliError> {
    // The receiver verifies the standard format, so the tenant's default profile must not apply.
    let wanted = json!({ "url": url, "events": events, "name": "hooktide listen", "profile": "standard" });
    let answer = client.post(WEBHOOKS, &wanted).await?;
    let CreatedWebhook { id, secret } = serde_json::from_slice(&answer).map_err(ClientError::Answer)?;
    Ok((secret, TemporaryWebhook { client, id }))
}

async fn listen(
    args: &Args,
    url: &str,
    secret: Secret,
    temporary: Option<&TemporaryWebhook>,
    listener: TcpListener,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let key = SigningKey::try_new(secret).map_err(CliError::Secret)?;
    let webhook =
        temporary.map(|temporary| format!(", webhook {}", output::visible(&temporary.id))).unwrap_or_default();
    if !args.client.json {
        writeln!(out, "listening on {url} for {}{webhook}", args.events.join(" "))?;
        out.flush()?;
    }
    let patterns = args.events.iter().filter_map(|text| EventPattern::try_new(text).ok()).collect();
    let clock = Clock::system(Timestamp::default());
    let receiver = Arc::new(Receiver::new(key, patterns, args.fail, clock));
    receiver::serve(receiver, listener, stop, |received| {
        if args.client.json { received.print_json(out) } else { received.print(out) }
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::tests::server;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn without_a_secret_a_temporary_webhook_is_created_and_deleted() {
        let made = r#"{"id":"wh_1","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
        let (server_url, served) = server(&[("201 Created", made), ("204 No Content", "")]);
        let words = ["listen", "--events", "order.*", "--url", &server_url, "--key", "a-key-of-the-tests"];
        let args = Line::parse_from(words).args;
        let mut out = Vec::new();
        let stop = std::future::ready(());
        block_on(run_until(stop, &args, &Environment::default(), &mut out)).unwrap();

        let printed = String::from_utf8(out).unwrap();
        let url = printed.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next()).unwrap();
        assert_eq!(printed, format!("listening on {url} for order.*, webhook wh_1\n"));
        let requests = served.join().unwrap();
        let wanted = format!(r#"{{"events":["order.*"],"name":"hooktide listen","profile":"standard","url":"{url}"}}"#);
        assert!(requests[0].starts_with("POST /api/v1/webhooks ") && requests[0].ends_with(&wanted), "{requests:?}");
        assert!(requests[1].starts_with("DELETE /api/v1/webhooks/wh_1 "), "{requests:?}");
    }

    #[test]
    fn a_webhook_with_an_unusable_secret_is_deleted() {
        let (url, served) = server(&[("201 Created", r#"{"id":"wh_1","secret":"plain"}"#), ("204 No Content", "")]);
        let args = Line::parse_from(["listen", "--url", &url, "--key", "a-key-of-the-tests"]).args;
        let stop = std::future::pending();
        let done = block_on(run_until(stop, &args, &Environment::default(), &mut Vec::new()));
        assert!(matches!(done, Err(CliError::Secret(_))), "{done:?}");
        assert!(served.join().unwrap()[1].starts_with("DELETE /api/v1/webhooks/wh_1 "));
    }
}
