//! SIGHUP: the configuration is read again. Egress rules, API keys, what tokens are taken, tenants, sources, profiles, event types and
//! the log level change at once; a file with an error in it changes nothing.

use super::ServeOptions;
use super::server::Server;

/// Reads the configuration again and applies what can change while running.
pub(super) async fn reload(server: &Server, options: &ServeOptions) {
    let config = match options.loader.load() {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.iter() {
                tracing::error!(%error, "the configuration is not reloaded");
            }
            return;
        }
    };
    if let Ok(filter) = config.logging.level.parse() {
        options.logging.set(filter);
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match server.apply(&config).await {
        Ok(()) => tracing::info!(
            "configuration reloaded: apply, egress, auth, tenants, events, event_types, profiles, sources, server.cors_origins, server.public_url and \
             logging.level; other keys need a restart"
        ),
        Err(error) => tracing::error!(%error, "API keys, profiles, sources and event types are not reloaded"),
    }
    server.declare(&config).await;
}
