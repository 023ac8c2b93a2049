//! Which ids of an event were numbers in JSON.

/// Which ids of an event were numbers in JSON. They are stored and compared as text, and shown as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NumericIds {
    /// Whether `resource_id` was a number.
    pub resource: bool,
    /// Whether `workspace_id` was a number.
    pub workspace: bool,
    /// Whether `user_id` was a number.
    pub user: bool,
}

// Flags of an event head. A program that ignores them shows the ids as text.
const RESOURCE: u8 = 32;
const WORKSPACE: u8 = 64;
const USER: u8 = 128;

impl NumericIds {
    pub(super) fn flags(self) -> u8 {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        flag(self.resource, RESOURCE) | flag(self.workspace, WORKSPACE) | flag(self.user, USER)
    }

    pub(super) fn of_flags(flags: u8) -> Self {
        let is = |flag: u8| flags & flag != 0;
        Self { resource: is(RESOURCE), workspace: is(WORKSPACE), user: is(USER) }
    }
}
