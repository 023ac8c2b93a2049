//! Pagination of lists.

/// The part of a list that a caller requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The maximum number of rows in the page.
    pub limit: usize,
    /// The number of rows to skip first.
    pub skip: usize,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage<T, C> {
    /// The rows of the page.
    pub rows: Vec<T>,
    /// The cursor after which the next page begins; `None` at the end of the list.
    pub next: Option<C>,
}

impl PageRequest {
    /// The number of rows to fetch: one more than the page shows, which reveals whether the list continues.
    pub fn fetch_limit(&self) -> usize {
        self.skip + self.limit + 1
    }

    /// Cuts the fetched rows to the page. Returns the rows of the page and whether the list continues after them.
    pub fn cut<T>(&self, found: Vec<T>) -> (Vec<T>, bool) {
        let more = found.len() >= self.fetch_limit();
        (found.into_iter().skip(self.skip).take(self.limit).collect(), more)
    }

    /// Builds the page from the rows that a search found. `stopped_at` is the cursor of a search that reached its scan
    /// limit before it found enough rows. `place` returns the cursor of a row.
    pub(crate) fn rows<T, C>(&self, found: Vec<T>, stopped_at: Option<C>, place: impl Fn(&T) -> C) -> ListPage<T, C> {
        let (rows, more) = self.cut(found);
        let next = if more { rows.last().map(place) } else { stopped_at };
        ListPage { rows, next }
    }
}
