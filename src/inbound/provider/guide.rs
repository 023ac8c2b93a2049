//! Generates the pages of `docs/guides/providers/` from the provider table, so that they match the behavior of the program.

use http::Method;

use super::{DedupMode, RawRecipe, Recipe, recipes};
use crate::signature::{OneOrMany, RawJwt, RawScheme, ValueLocation};

/// A family of providers: one page of the guides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The name in recipes and the file name of the page: `developer-tools`.
    pub name: &'static str,
    /// The heading of the page.
    pub title: &'static str,
    /// One sentence about the family.
    pub about: &'static str,
}

/// All families, in the order of the index.
pub const FAMILIES: [Family; 9] = [
    Family { name: "commerce", title: "Commerce", about: "Shops, and what sells in them." },
    Family { name: "payments", title: "Payments and finance", about: "Payments, cards, subscriptions, accounts." },
    Family { name: "developer-tools", title: "Developer tools", about: "Code, builds, incidents, models." },
    Family { name: "messaging", title: "Messaging", about: "Chat, mail, calls, social networks." },
    Family { name: "crm-and-support", title: "CRM and support", about: "Customers, sales, tickets." },
    Family { name: "identity", title: "Identity", about: "Users, directories, checks of identity." },
    Family { name: "productivity", title: "Productivity", about: "Documents, calendars, forms, boards, files." },
    Family { name: "media-and-cloud", title: "Media and cloud", about: "Video, streams, cloud services." },
    Family { name: "standards", title: "Standards", about: "Senders that follow a common specification." },
];

/// The first line of each generated page.
const GENERATED_NOTICE: &str = "<!-- Made from src/inbound/provider/table.toml; a test compares them. -->\n";

/// The index page in Markdown.
pub fn guide_index() -> String {
    let about = "Each of these is a `kind` of source: three lines of configuration, and its webhooks are verified over \
                 their raw bytes, deduplicated and delivered like every event. A sender that is not here is a source of \
                 kind `custom` with its own `verify`, or `partner` with a secret URL.";
    let mut page = format!("{GENERATED_NOTICE}# Providers\n\n{}\n", wrap("", about));
    for family in FAMILIES {
        page.push_str(&format!("\n## [{}]({}.md)\n\n{}\n\n", family.title, family.name, family.about));
        for (name, raw) in recipes_of(family.name) {
            page.push_str(&format!("- [{}]({}.md#{name}), kind `{name}`\n", raw.title, family.name));
        }
    }
    page
}

/// The page of a family in Markdown. For an unknown family, the heading is its name and there is no description.
pub fn guide_page(family: &str) -> String {
    let known = FAMILIES.iter().find(|known| known.name == family);
    let (title, about) = known.map_or((family, ""), |known| (known.title, known.about));
    let mut page = format!("{GENERATED_NOTICE}# {title}\n\n{about} All kinds: [Providers](README.md).\n");
    for (name, raw) in recipes_of(family) {
        page.push_str(&section(name, raw));
    }
    page
}

fn recipes_of(family: &str) -> impl Iterator<Item = (&'static str, &'static RawRecipe)> {
    recipes().filter(move |(_, raw)| raw.family == family)
}

fn section(name: &str, raw: &RawRecipe) -> String {
    let Ok(recipe) = Recipe::try_new(raw) else { return String::new() };
    let mut text = format!("\n## {}\n<a id=\"{name}\"></a>\n\n{}\n\n", raw.title, wrap("", &raw.notes));
    text.push_str(&configuration(name, raw, &recipe));
    text.push_str(&format!("\nIts URL is `https://hooks.example.com/api/v1/webhooks/{name}`.\n\n"));
    let mut row = |what: &str, words: String| {
        if !words.is_empty() {
            text.push_str(&format!("{}\n", wrap("- ", &format!("{what}: {words}"))));
        }
    };
    row("Verified", verified(&raw.verify));
    row("Time", time(&raw.verify));
    row("Type", kind_of_event(name, raw, &recipe));
    row("Duplicates", duplicates(raw, &recipe));
    row("Handshake", recipe.handshake.map_or(String::new(), |shake| shake.about().collect::<Vec<_>>().join(" ")));
    row("Answer", answer(raw));
    row(
        "Metadata",
        raw.keep
            .iter()
            .map(|(name, place)| format!("`{name}`: {}", describe_location(place)))
            .collect::<Vec<_>>()
            .join("; "),
    );
    row("Body", body(&recipe));
    row("Methods", methods(&recipe));
    for (option, meaning) in &raw.options {
        row("Option", format!("`{option}`: {meaning}"));
    }
    row("Other names", raw.also.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", "));
    row("Not confirmed", raw.unconfirmed.clone());
    text
}

fn configuration(name: &str, raw: &RawRecipe, recipe: &Recipe) -> String {
    let mut text = format!("```toml\n[[sources]]\nname = \"{name}\"\nkind = \"{name}\"\n");
    let learned = recipe.handshake.is_some_and(super::Handshake::provides_secret);
    if recipe.scheme.needs_secret() && !learned {
        let variable = name.replace('-', "_").to_uppercase();
        text.push_str(&format!("secrets = [{{ env = \"{variable}_WEBHOOK_SECRET\" }}]\n"));
    }
    let required: Vec<String> = raw
        .options
        .iter()
        .filter(|(_, meaning)| meaning.starts_with("required"))
        .map(|(option, _)| format!("{option} = \"…\""))
        .collect();
    if !required.is_empty() {
        text.push_str(&format!("options = {{ {} }}\n", required.join(", ")));
    }
    text.push_str("```\n");
    text
}

/// Describes the signature: the algorithm, the signed content and the location.
fn verified(scheme: &RawScheme) -> String {
    let places = list(scheme.sig.as_ref());
    let places: Vec<String> = places.iter().map(|place| describe_location(place)).collect();
    let at = match places.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first, .., last] => format!("{first} to {last}, any of which may fit"),
    };
    let prefix = scheme.prefix.as_deref().map_or(String::new(), |prefix| format!(" after `{prefix}`"));
    let encoding = scheme.encoding.as_deref().map_or(String::new(), |encoding| format!(", {encoding}{prefix}"));
    let several = if scheme.split.is_some() { "; of several signatures any may fit" } else { "" };
    let each = scheme
        .each
        .as_deref()
        .map_or(String::new(), |each| format!(", each element of {} by itself", describe_location(each)));
    let alg = scheme.alg.as_deref().unwrap_or("sha256").to_uppercase().replace("SHA", "SHA-");
    let how = match scheme.scheme.as_str() {
        "hmac" => format!("HMAC-{alg}"),
        "hash" => alg,
        "ed25519" => "Ed25519".to_owned(),
        "ecdsa-p256" => "ECDSA P-256".to_owned(),
        "token" => {
            return format!("The secret itself in {at}{each}. Nothing is signed: who learns it can send anything.");
        }
        "basic" => {
            return format!("User and password in {at} (Basic). Nothing is signed: who learns them can send anything.");
        }
        "jwt" => return format!("{}, in {at}", token_rules(scheme.jwt.as_ref())),
        "code:twilio" => {
            return format!("HMAC-SHA-1 over the URL and the form's fields, or the body's SHA-256 in the URL, in {at}");
        }
        "code:mandrill" => return format!("HMAC-SHA-1 over the URL and the form's fields, in {at}"),
        "code:contentful" => {
            return format!("HMAC-SHA-256 over the method, the path, the listed headers and the body, in {at}");
        }
        "code:braintree" => return format!("HMAC-SHA-1 over the form field `bt_payload`, in {at}"),
        "code:paypal" => return format!("RSA over transmission, webhook ID and the body's CRC32, in {at}"),
        "code:sns" => return format!("RSA over the message's fields, in {at}"),
        other => other.to_owned(),
    };
    let signed = scheme.signed.as_deref().unwrap_or("{body}");
    let key = match scheme.key.as_deref() {
        None | Some("utf8") => "",
        Some("hex") => "; the secret is hexadecimal",
        Some(_) => "; the secret is base64",
    };
    format!("{how} over {}{each}, in {at}{encoding}{several}{key}", template(signed))
}

/// Describes the rules of a token.
fn token_rules(rules: Option<&RawJwt>) -> String {
    let Some(rules) = rules else { return String::new() };
    let alg: Vec<&str> = rules.alg.as_ref().map(OneOrMany::iter).into_iter().flatten().collect();
    let mut text = format!("JSON Web Token ({})", alg.join(", "));
    if let Some(jwks) = &rules.jwks {
        text.push_str(&format!(" by a key of `{jwks}`"));
    }
    let claims = rules.claims.iter().map(|(name, wanted)| {
        let wanted: Vec<String> = wanted.iter().map(|wanted| format!("`{wanted}`")).collect();
        format!("`{name}` {}", wanted.join(" or "))
    });
    let claims: Vec<String> = claims.collect();
    if !claims.is_empty() {
        text.push_str(&format!(", with {}", claims.join(", ")));
    }
    match &rules.body_hash {
        Some(claim) => text.push_str(&format!(", and the body's SHA-256 in `{claim}`")),
        None => text.push_str(", which does not cover the body"),
    }
    text
}

/// The template of the signed content. A template that is longer than a line is split into its parts.
fn template(signed: &str) -> String {
    if signed.chars().count() <= LINE_CHARS_MAX - 4 {
        return format!("`{signed}`");
    }
    let mut starts: Vec<usize> = signed.match_indices('{').map(|(at, _)| at).filter(|at| *at > 0).collect();
    starts.push(signed.len());
    let mut from = 0;
    let parts = starts.into_iter().map(|to| format!("`{}`", &signed[std::mem::replace(&mut from, to)..to]));
    format!("these parts, with nothing between them: {}", parts.collect::<Vec<_>>().join(" "))
}

fn time(scheme: &RawScheme) -> String {
    let Some(place) = &scheme.time else {
        let age = scheme.tolerance.filter(|_| scheme.jwt.is_some());
        return age.map_or_else(String::new, |age| format!("the claim `iat`; at most {age} s old or ahead"));
    };
    let unit = match scheme.unit.as_deref() {
        Some("ms") => "milliseconds",
        Some("s-or-ms") => "seconds or milliseconds",
        Some("rfc3339") => "RFC 3339",
        _ => "seconds",
    };
    format!("{} in {unit}; at most {} s old or ahead", describe_location(place), scheme.tolerance.unwrap_or(300))
}

fn kind_of_event(name: &str, raw: &RawRecipe, recipe: &Recipe) -> String {
    if recipe.event_type.is_empty() {
        return format!("none is given: `{name}.event`");
    }
    let places: Vec<String> = list(raw.r#type.as_ref()).iter().map(|place| describe_location(place)).collect();
    let unsigned = if recipe.type_is_signed { "" } else { " (not signed)" };
    let example = if raw.example.is_empty() {
        String::new()
    } else {
        format!("; `{}` arrives as `{name}.{}`", raw.example, plain(&raw.example))
    };
    format!("{}{unsigned}{example}", places.join(", else "))
}

/// The event type of a topic if no event map rule matches it.
fn plain(topic: &str) -> String {
    let plain = |c: char| {
        if c == '/' {
            '.'
        } else if c.is_ascii_alphanumeric() || ".:-".contains(c) {
            c
        } else {
            '_'
        }
    };
    topic.chars().map(plain).collect()
}

fn duplicates(raw: &RawRecipe, recipe: &Recipe) -> String {
    let id: Vec<String> = list(raw.id.as_ref()).iter().map(|place| describe_location(place)).collect();
    let unsigned = if recipe.id_is_signed { "" } else { " (not signed)" };
    let mut text = match recipe.dedup {
        DedupMode::Id => format!("known by {}{unsigned}; without it by the body", id.join(" + ")),
        DedupMode::IdAndBody => format!("known by {}{unsigned} together with the body", id.join(" + ")),
        DedupMode::Body => "known by the body".to_owned(),
        DedupMode::Never => "none is dropped".to_owned(),
    };
    if let Some(nonce) = &raw.nonce {
        text.push_str(&format!("; {} is taken once", describe_location(nonce)));
    }
    text
}

fn answer(raw: &RawRecipe) -> String {
    match (raw.status, raw.respond.as_deref()) {
        (None, None) => String::new(),
        (Some(status), None) => format!("{status}"),
        (status, Some("")) => format!("{} with an empty body", status.unwrap_or(200)),
        (status, Some(body)) => format!("{} with `{body}`", status.unwrap_or(200)),
    }
}

fn body(recipe: &Recipe) -> String {
    let mut kinds = vec!["JSON".to_owned()];
    if recipe.accepts_forms {
        kinds.push("a form".to_owned());
    }
    if recipe.accepts_multipart {
        kinds.push("a multipart form, whose files become their name, media type, size and SHA-256".to_owned());
    }
    if recipe.accepts_text {
        kinds.push("JSON as `text/plain`".to_owned());
    }
    for listed in &recipe.content_types {
        kinds.push(format!("`{listed}`, which becomes an object with the field `text`"));
    }
    let mut text = match kinds.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => String::new(),
    };
    if let Some(ValueLocation::Form(field)) = &recipe.form_json {
        text.push_str(&format!("; the JSON in the form field `{field}` is read as the body"));
    }
    text
}

/// The methods of events, if they are more than POST.
fn methods(recipe: &Recipe) -> String {
    let names: Vec<&str> = recipe.methods.iter().map(Method::as_str).collect();
    match names.as_slice() {
        ["POST"] => String::new(),
        names => {
            let is_signed = recipe.scheme.covers(&ValueLocation::Query("any".into()));
            let unsigned = if is_signed { "" } else { " (not signed)" };
            format!("{}; without a body, the parameters of the query are the data{unsigned}", names.join(", "))
        }
    }
}

fn list(places: Option<&OneOrMany>) -> &[String] {
    match places {
        None => &[],
        Some(OneOrMany::One(place)) => std::slice::from_ref(place),
        Some(OneOrMany::Many(places)) => places,
    }
}

/// The maximum length of a line of a page, in characters.
const LINE_CHARS_MAX: usize = 116;

/// Wraps text into lines. `marker` is put before the first line, and the other lines are indented by its width.
///
/// Code spans are not broken. No line begins with a word that Markdown reads as a list item or a heading.
fn wrap(marker: &str, text: &str) -> String {
    let indent = " ".repeat(marker.len());
    let (mut out, mut column) = (marker.to_owned(), marker.len());
    let mut in_code = false;
    let words = text.split(|c: char| {
        in_code ^= c == '`';
        c.is_whitespace() && !in_code
    });
    for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
        let width = word.chars().count();
        if at > 0 && column + 1 + width > LINE_CHARS_MAX && !begins_block(word) {
            out.push_str(&format!("\n{indent}"));
            column = indent.len();
        } else if at > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

/// Whether Markdown reads a line that begins with this word as a list item or a heading.
fn begins_block(word: &str) -> bool {
    ["+", "-", "*", "1."].contains(&word) || word.starts_with('#')
}

/// Describes a value location: `` header `X-Topic` or `Topic` ``.
fn describe_location(place: &str) -> String {
    match place.split_once(':') {
        Some(("header", names)) => {
            format!("header {}", names.split('|').map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        }
        Some(("json", pointer)) => format!("JSON `{pointer}`"),
        Some(("form", field)) => match field.split_once("#/") {
            Some((field, pointer)) => format!("JSON `/{pointer}` in the form field `{field}`"),
            None => format!("form field `{field}`"),
        },
        Some(("query", name)) => format!("query parameter `{name}`"),
        Some(("sig", "[0]")) => "the first part of the signature".to_owned(),
        Some(("const", text)) => format!("always `{text}`"),
        Some(("sig", prefix)) => format!("what follows `{prefix}` in the signature"),
        _ if place == "path" => "what follows in the URL's path".to_owned(),
        _ => format!("`{place}`"),
    }
}
