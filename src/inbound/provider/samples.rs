//! Sample payloads of providers: one file per event type, with placeholders for values that are new in each request.
//!
//! Field names and structure are those of the provider; every value is fictional. `%{…}` inside a string and `"#{…}"` for a
//! number are placeholders that `hooktide trigger` fills. A file `….form.json` is sent as a form.

/// A sample payload of a provider for one event type.
#[derive(Debug, Clone, Copy)]
pub struct SamplePayload {
    /// The event type as the provider writes it: `orders/create`.
    pub event_type: &'static str,
    /// The body: JSON with placeholders.
    pub body: &'static str,
    /// Whether the payload is sent as a form.
    pub is_form: bool,
}

macro_rules! json {
    ($kind:literal: $($event_type:literal),+ $(,)?) => {
        &[$(SamplePayload {
            event_type: $event_type,
            body: include_str!(concat!("samples/", $kind, "/", $event_type, ".json")),
            is_form: false,
        }),+]
    };
}

const SHOPIFY: &[SamplePayload] = json!("shopify":
    "orders/create",
    "orders/paid",
    "orders/cancelled",
    "products/create",
    "products/update",
    "inventory_levels/update",
    "customers/create",
    "app/uninstalled",
    "customers/data_request",
    "customers/redact",
    "shop/redact",
);

const STRIPE: &[SamplePayload] = json!("stripe":
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "charge.refunded",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "invoice.paid",
    "invoice.payment_failed",
    "checkout.session.completed",
    "account.updated",
    "v1.billing.meter.error_report_triggered",
);

const GITHUB: &[SamplePayload] = json!("github": "push", "pull_request", "issues", "ping");

const SLACK: &[SamplePayload] = &[
    SamplePayload { event_type: "message", body: include_str!("samples/slack/message.json"), is_form: false },
    SamplePayload {
        event_type: "slash_command",
        body: include_str!("samples/slack/slash_command.form.json"),
        is_form: true,
    },
    SamplePayload {
        event_type: "url_verification",
        body: include_str!("samples/slack/url_verification.json"),
        is_form: false,
    },
];

/// The samples of a kind. Empty if the kind has none.
pub fn samples(kind: &str) -> &'static [SamplePayload] {
    match kind {
        "shopify" => SHOPIFY,
        "stripe" => STRIPE,
        "github" => GITHUB,
        "slack" => SLACK,
        _ => &[],
    }
}

/// The headers that a kind sends in addition to its signature: a JSON object with placeholders as in a body. Returns `None`
/// if the kind has no samples.
pub fn sample_headers(kind: &str) -> Option<&'static str> {
    match kind {
        "shopify" => Some(include_str!("samples/shopify/headers.json")),
        "stripe" => Some(include_str!("samples/stripe/headers.json")),
        "github" => Some(include_str!("samples/github/headers.json")),
        "slack" => Some(include_str!("samples/slack/headers.json")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Collects the files below a folder, as `orders/create.json`.
    fn files(folder: &Path, front: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{front}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                files(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_is_listed_and_is_valid_json() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inbound/provider/samples");
        let mut kinds = 0;
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_name().into_string().unwrap();
            let mut found = BTreeSet::new();
            files(&entry.path(), "", &mut found);
            let mut listed = BTreeSet::from(["headers.json".to_owned()]);
            for sample in samples(&kind) {
                serde_json::from_str::<serde_json::Value>(sample.body).unwrap();
                listed.insert(format!("{}{}.json", sample.event_type, if sample.is_form { ".form" } else { "" }));
            }
            assert_eq!(found, listed, "{kind}");
            serde_json::from_str::<std::collections::BTreeMap<String, String>>(sample_headers(&kind).unwrap()).unwrap();
            kinds += 1;
        }
        assert_eq!(kinds, 4);
    }
}
