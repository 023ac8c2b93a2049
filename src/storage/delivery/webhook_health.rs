//! How badly a webhook stands, as state.redb keeps it: a percent of the way to being disabled, or 100 for disabled.

/// How badly a webhook stands; one that is well has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does nothing but fail, and this much of the time (in percent) is over after which it is disabled.
    Failing(u8),
    /// Its status is failed.
    Disabled,
}

/// As stored; below it are percents.
const DISABLED: u8 = 100;

impl Standing {
    pub(super) fn encode(self) -> u8 {
        match self {
            Self::Failing(percent) => percent,
            Self::Disabled => DISABLED,
        }
    }

    pub(super) fn decode(stored: u8) -> Self {
        if stored >= DISABLED { Self::Disabled } else { Self::Failing(stored) }
    }
}
