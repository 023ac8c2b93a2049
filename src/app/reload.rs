//! Reloads the configuration at SIGHUP. Egress rules, API keys, the rules for tokens, tenants, sources, profiles, event
//! types and the log level change at once. A configuration with an error changes nothing.

use super::server::RunningServer;
use super::{CompiledConfig, ServeOptions};

/// Reads the configuration again and applies the changes that need no restart.
pub(super) async fn reload(server: &RunningServer, options: &ServeOptions) {
    let setup = match CompiledConfig::load(&options.loader) {
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
    server.apply_declared_webhooks(setup.declared.as_deref()).await;
}
