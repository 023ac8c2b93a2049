//! What a caller may do.

/// What a caller may do; each includes those before it, but for `Publisher`, which may only publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publishes events, reads nothing.
    Publisher,
    /// Reads.
    Viewer,
    /// All within the tenant but keys, audit and portal links.
    Member,
    /// Those too.
    Admin,
}

impl Role {
    /// The words of all roles, for messages.
    pub const WORDS: &str = "publisher, viewer, member or admin";

    /// The role that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "publisher" => Some(Self::Publisher),
            "viewer" => Some(Self::Viewer),
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}
