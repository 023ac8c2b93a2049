//! SIGHUP: the configuration is read again. Egress rules, API keys, the rules for tokens, tenants, sources, profiles,
//! event types and the log level change at once. A configuration with an error changes nothing.

use super::server::Server;
use super::{ServeOptions, Setup};

/// Reads the configuration again and applies what can change while running.
pub(super) async fn reload(server: &Server, options: &ServeOptions) {
    let setup = match Setup::load(&options.loader) {
        Ok(setup) => setup,
        Err(errors) => {
            for error in errors.iter() {
                tracing::error!(%error, "the configuration is not reloaded");
            }
            return;
        }
    };
    if let Ok(filter) = setup.config.logging.level.parse() {
        options.logging.set(filter);
    }
    for warning in &setup.warnings {
        tracing::warn!("{warning}");
    }
    match server.apply(&setup).await {
        Ok(()) => tracing::info!(
            "configuration reloaded: apply, egress, auth, tenants, events, event_types, profiles, sources, server.cors_origins, server.public_url and \
             logging.level; other keys need a restart"
        ),
        Err(error) => tracing::error!(%error, "API keys, profiles, sources and event types are not reloaded"),
    }
    server.declare(setup.declared.as_deref()).await;
}
