//! Converts CommonMark to HTML, for descriptions and for `docs/errors.md`.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::html::anchor;

/// Converts a text of several blocks. Each heading gets its text as an anchor.
pub(super) fn blocks(text: &str) -> String {
    let mut events: Vec<_> = Parser::new_ext(text, Options::ENABLE_TABLES).map(html_to_text).collect();
    name_headings(&mut events);
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events.into_iter());
    out
}

/// Converts a text of one paragraph, without the enclosing `<p>`.
pub(super) fn line(text: &str) -> String {
    let whole = blocks(text);
    let inner = whole.trim().strip_prefix("<p>").and_then(|rest| rest.strip_suffix("</p>"));
    inner.filter(|inner| !inner.contains("<p>")).map_or_else(|| whole.clone(), str::to_owned)
}

/// Turns HTML markup into text, so that it is shown and not interpreted.
fn html_to_text(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    }
}

fn name_headings(events: &mut [Event<'_>]) {
    for at in 0..events.len() {
        if !matches!(events[at], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let words: String = events[at + 1..]
            .iter()
            .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))))
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(&**text),
                _ => None,
            })
            .collect();
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[at] {
            *id = Some(CowStr::from(anchor(&words)));
        }
    }
}
