//! Logging: lines of text or JSON on standard error. A reload can change the filter.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as lines};

/// Selects the lines that are written, such as `info` or `hooktide=debug,warn`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    /// `info`.
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

/// The text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not off, error, warn, info, debug or trace, nor a list such as \"hooktide::send=debug,warn\"")]
pub struct LogFilterError(Box<str>);

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let bad = || LogFilterError(text.into());
        let mut targets = Targets::new();
        for part in text.split(',').map(str::trim) {
            targets = match part.split_once('=') {
                // Only level names are accepted. tracing would also accept 0 to 5 as levels and any other word as a
                // target.
                None => targets.with_default(level(part).ok_or_else(bad)?),
                Some((target, word)) if is_target(target) => targets.with_target(target, level(word).ok_or_else(bad)?),
                Some(_) => return Err(bad()),
            };
        }
        Ok(Self(targets))
    }
}

fn level(word: &str) -> Option<LevelFilter> {
    word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_alphabetic()) && !word.is_empty())
}

fn is_target(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
}

/// Changes the log filter of the running process.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Starts the logging of the process, as JSON if `json`, otherwise as text, with colours if `colour`.
    ///
    /// # Errors
    /// If the process already has a logger.
    pub fn start(filter: LogFilter, json: bool, colour: bool) -> Result<Self, TryInitError> {
        let (filter, handle) = reload::Layer::new(filter.0);
        let base = lines::layer().with_writer(std::io::stderr);
        let layer = if json {
            base.json().flatten_event(true).with_current_span(true).with_span_list(false).with_filter(filter).boxed()
        } else {
            base.with_ansi(colour).with_filter(filter).boxed()
        };
        tracing_subscriber::registry().with(layer).try_init()?;
        Ok(Self(handle))
    }

    /// Replaces the filter. Does nothing if the logger does not exist any more.
    pub fn set(&self, filter: LogFilter) {
        let _ = self.0.reload(filter.0);
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logging")
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn filters_are_parsed_strictly() {
        let LogFilter(targets) = "hooktide::send=debug,warn".parse().unwrap();
        assert!(targets.would_enable("hooktide::send::client", &Level::DEBUG));
        assert!(!targets.would_enable("hooktide::send", &Level::TRACE));
        assert!(!targets.would_enable("hyper", &Level::INFO));
        assert!("OFF".parse::<LogFilter>().is_ok());
        for text in ["", "inof", "3", "hooktide", "hooktide=", "=info", "a b=info", "info,,warn"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
    }
}
