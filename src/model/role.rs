//! The roles of API callers.

/// The role of a caller. Each role includes the permissions of the roles before it. The exception is `Publisher`, which
/// may only publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May publish events and read nothing.
    Publisher,
    /// May read.
    Viewer,
    /// May do everything within the tenant except manage keys, the audit log and portal links.
    Member,
    /// May do everything within the tenant, including keys, the audit log and portal links.
    Admin,
}

impl Role {
    /// The names of all roles, for messages.
    pub const WORDS: &str = "publisher, viewer, member or admin";

    /// The role with this name; `None` for an unknown name.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "publisher" => Some(Self::Publisher),
            "viewer" => Some(Self::Viewer),
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The name of the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}
