//! Logs: lines of text or JSON on standard error, with a level that a reload can change.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as lines};

/// Which lines are written: `info`, or `hooktide=debug,warn`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Default for Filter {
    /// `info`.
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

/// Text that is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not off, error, warn, info, debug or trace, nor a list such as \"hooktide::send=debug,warn\"")]
pub struct FilterError(Box<str>);

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let bad = || FilterError(text.into());
        let mut targets = Targets::new();
        for part in text.split(',').map(str::trim) {
            targets = match part.split_once('=') {
                // Only words: tracing itself would take 0 to 5 as levels and any other word as a target.
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

/// Changes the filter of the running process.
#[derive(Clone)]
pub struct Logging(reload::Handle<Targets, Registry>);

impl Logging {
    /// Starts the process's logging. Text is coloured if `colour`.
    ///
    /// # Errors
    /// If the process has a logger already.
    pub fn start(filter: Filter, json: bool, colour: bool) -> Result<Self, TryInitError> {
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

    /// Replaces the filter; without a logger any more there is nothing to filter, and nothing happens.
    pub fn set(&self, filter: Filter) {
        let _ = self.0.reload(filter.0);
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logging")
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn filters() {
        let Filter(targets) = "hooktide::send=debug,warn".parse().unwrap();
        assert!(targets.would_enable("hooktide::send::client", &Level::DEBUG));
        assert!(!targets.would_enable("hooktide::send", &Level::TRACE));
        assert!(!targets.would_enable("hyper", &Level::INFO));
        assert!("OFF".parse::<Filter>().is_ok());
        for text in ["", "inof", "3", "hooktide", "hooktide=", "=info", "a b=info", "info,,warn"] {
            assert!(text.parse::<Filter>().is_err(), "{text:?}");
        }
    }
}
