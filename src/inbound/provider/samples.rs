//! Samples: what providers send, one file for each type, with places for what is fresh each time.
//!
//! Field names and shapes are the providers'; every value is made up. `%{…}` within a text and `"#{…}"` for a number stand
//! for fresh values (`hooktide trigger` fills them); a file `….form.json` is sent as a form.

/// What a provider sends for a type.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The type in the provider's spelling: `orders/create`.
    pub event_type: &'static str,
    /// The body, JSON but for its places.
    pub body: &'static str,
    /// Whether it travels as a form.
    pub form: bool,
}

macro_rules! json {
    ($kind:literal: $($event_type:literal),+ $(,)?) => {
        &[$(Sample {
            event_type: $event_type,
            body: include_str!(concat!("samples/", $kind, "/", $event_type, ".json")),
            form: false,
        }),+]
    };
}

const SHOPIFY: &[Sample] = json!("shopify":
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

const STRIPE: &[Sample] = json!("stripe":
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

const GITHUB: &[Sample] = json!("github": "push", "pull_request", "issues", "ping");

const SLACK: &[Sample] = &[
    Sample { event_type: "message", body: include_str!("samples/slack/message.json"), form: false },
    Sample { event_type: "slash_command", body: include_str!("samples/slack/slash_command.form.json"), form: true },
    Sample { event_type: "url_verification", body: include_str!("samples/slack/url_verification.json"), form: false },
];

/// The samples of a kind; empty where there are none.
pub fn samples(kind: &str) -> &'static [Sample] {
    match kind {
        "shopify" => SHOPIFY,
        "stripe" => STRIPE,
        "github" => GITHUB,
        "slack" => SLACK,
        _ => &[],
    }
}

/// The headers that a kind sends beside its signature: a JSON object, with places as in a body.
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

    /// Files below a folder, as `orders/create.json`.
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
    fn every_file_is_a_sample_and_is_json() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inbound/provider/samples");
        let mut kinds = 0;
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_name().into_string().unwrap();
            let mut found = BTreeSet::new();
            files(&entry.path(), "", &mut found);
            let mut listed = BTreeSet::from(["headers.json".to_owned()]);
            for sample in samples(&kind) {
                serde_json::from_str::<serde_json::Value>(sample.body).unwrap();
                listed.insert(format!("{}{}.json", sample.event_type, if sample.form { ".form" } else { "" }));
            }
            assert_eq!(found, listed, "{kind}");
            serde_json::from_str::<std::collections::BTreeMap<String, String>>(sample_headers(&kind).unwrap()).unwrap();
            kinds += 1;
        }
        assert_eq!(kinds, 4);
    }
}
