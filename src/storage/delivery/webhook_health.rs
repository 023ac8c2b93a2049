//! The failure state of a webhook, as state.redb stores it: a u8 with the percentage of the time until the webhook is
//! disabled, or 100 for disabled.

/// The failure state of a webhook. A healthy webhook has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookFailureState {
    /// Every attempt fails. The value is the percentage that has passed of the time after which the webhook is
    /// disabled.
    Failing(u8),
    /// The webhook is disabled: its status is `failed`.
    Disabled,
}

/// The stored value of [`WebhookFailureState::Disabled`]. Lower values are percentages.
const DISABLED: u8 = 100;

impl WebhookFailureState {
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
