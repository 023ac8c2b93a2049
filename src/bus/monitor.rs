//! Asks the monitoring ports of the servers whether an ack means that a message is on the disk.

use std::io;
use std::sync::Arc;

use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::connection::BusState;
use crate::limits::{BUS_API_TIMEOUT, BUS_MONITOR_BYTES_MAX};

/// The part of `/varz` that is read.
#[derive(Deserialize)]
struct ServerVariables {
    #[serde(default)]
    server_name: String,
    #[serde(default)]
    jetstream: JetStreamVariables,
}

#[derive(Deserialize, Default)]
struct JetStreamVariables {
    config: Option<JetStreamConfig>,
}

#[derive(Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

/// Logs what the acks of the servers are worth.
pub(super) async fn report_durability(state: Arc<BusState>) {
    if state.settings.monitors.is_empty() {
        tracing::info!(
            target: "hooktide::bus",
            "nats.monitor_url is not set, so it is unknown whether the NATS servers sync each message to the disk before \
             they acknowledge it"
        );
    }
    for monitor in &state.settings.monitors {
        match timeout(BUS_API_TIMEOUT, variables(monitor)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(variables) => report(monitor, &variables),
            Err(error) => tracing::warn!(
                target: "hooktide::bus",
                %monitor,
                %error,
                "it is unknown whether this NATS server syncs what it acknowledges: its monitoring port does not answer"
            ),
        }
    }
}

fn report(monitor: &Url, variables: &ServerVariables) {
    let server = &*variables.server_name;
    match &variables.jetstream.config {
        None => {
            tracing::warn!(target: "hooktide::bus", %monitor, server, "JetStream is not enabled on this NATS server");
        }
        Some(config) if config.sync_always => {
            tracing::info!(target: "hooktide::bus", %monitor, server, "this NATS server syncs what it acknowledges");
        }
        Some(config) => tracing::warn!(
            target: "hooktide::bus",
            %monitor,
            server,
            sync_seconds = config.sync_interval / 1_000_000_000,
            "this NATS server acknowledges messages before it syncs them to the disk: if the machine fails, or all replicas \
             of a stream do, the messages since the last sync are lost although their deliveries succeeded; \
             jetstream.sync_interval = always prevents that"
        ),
    }
}

async fn variables(monitor: &Url) -> io::Result<ServerVariables> {
    let host = monitor.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = monitor.port_or_known_default().unwrap_or_default();
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let authority = &monitor[url::Position::BeforeHost..url::Position::AfterPort];
    let request = http::Request::get("/varz").header(HOST, authority).body(Empty::<bytes::Bytes>::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    if !response.status().is_success() {
        return Err(io::Error::other(format!("/varz answered {}", response.status().as_u16())));
    }
    #[expect(clippy::disallowed_methods, reason = "the limit bounds what is collected")]
    let body = Limited::new(response.into_body(), BUS_MONITOR_BYTES_MAX).collect().await.map_err(io::Error::other)?;
    connection.abort();
    serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other)
}
