//! Pages of lists.

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows to answer.
    pub limit: usize,
    /// Rows to pass over first.
    pub skip: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<T, C> {
    /// The rows.
    pub rows: Vec<T>,
    /// The place after which the next page begins; `None` at the end.
    pub next: Option<C>,
}

impl Page {
    /// Rows to look for: one more than are answered, which tells whether the list goes on.
    pub fn wanted(&self) -> usize {
        self.skip + self.limit + 1
    }

    /// The rows to answer of those found, and whether the list goes on after them.
    pub fn cut<T>(&self, found: Vec<T>) -> (Vec<T>, bool) {
        let more = found.len() >= self.wanted();
        (found.into_iter().skip(self.skip).take(self.limit).collect(), more)
    }

    /// The page of what a search found. `stopped_at` is where a search ended that looked at enough without finding enough;
    /// `place` tells where a row stands.
    pub(crate) fn rows<T, C>(&self, found: Vec<T>, stopped_at: Option<C>, place: impl Fn(&T) -> C) -> Rows<T, C> {
        let (rows, more) = self.cut(found);
        let next = if more { rows.last().map(place) } else { stopped_at };
        Rows { rows, next }
    }
}
