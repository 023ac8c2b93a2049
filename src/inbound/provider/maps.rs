//! The default event maps of provider kinds: `maps/*.toml`, parsed once.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

static SHOPIFY: LazyLock<Vec<Value>> = LazyLock::new(|| read(include_str!("maps/shopify.toml")).unwrap_or_default());
static STRIPE: LazyLock<Vec<Value>> = LazyLock::new(|| read(include_str!("maps/stripe.toml")).unwrap_or_default());

/// The rules of the default event map of a kind. Returns `None` if the kind has none. A source's own `event_map` replaces
/// it.
pub fn default_map(kind: &str) -> Option<&'static [Value]> {
    match kind {
        "shopify" => Some(&SHOPIFY),
        "stripe" => Some(&STRIPE),
        _ => None,
    }
}

/// Parses an embedded map. A test checks that every map can be parsed.
fn read(text: &str) -> Result<Vec<Value>, toml_edit::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Map {
        rules: Vec<Value>,
    }

    toml_edit::de::from_str::<Map>(text).map(|map| map.rules)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderMap;

    use super::*;
    use crate::inbound::source::testing::build;
    use crate::inbound::source::{MapInput, Source};

    fn source(kind: &str) -> Source {
        build(&format!("name = \"{kind}-2\"\nkind = \"{kind}\"\nsecrets = [\"0123456789abcdef\"]")).unwrap()
    }

    fn mapped_type(source: &Source, topic: &str) -> String {
        let event = MapInput { source, topic: Some(topic), data: r#"{"id":1}"#, headers: &HeaderMap::new() };
        let mapped = source.event_map.apply(&event).unwrap().unwrap();
        assert_eq!(mapped.data, None, "the payload is unchanged");
        mapped.event_type
    }

    #[test]
    fn every_topic_has_one_rule_and_the_last_rule_matches_all_others() {
        for (kind, text, least) in
            [("shopify", include_str!("maps/shopify.toml"), 200), ("stripe", include_str!("maps/stripe.toml"), 140)]
        {
            let rules = read(text).unwrap();
            assert!(rules.len() > least, "{kind}");
            let topics: HashSet<&str> = rules.iter().map(|rule| rule["when"].as_str().unwrap()).collect();
            assert_eq!(topics.len(), rules.len(), "{kind}: a topic is there twice");
            let (last, named) = rules.split_last().unwrap();
            assert_eq!(last["when"], "*");
            let source = source(kind);
            let mut types = HashSet::new();
            for rule in named {
                let event_type = mapped_type(&source, rule["when"].as_str().unwrap());
                assert_eq!(rule["type"], *event_type, "{kind}");
                assert!(types.insert(event_type), "{kind}: two topics become {}", rule["type"]);
            }
        }
    }

    #[test]
    fn shopify_topics_are_mapped() {
        let source = source("shopify");
        for (topic, event_type) in [
            ("orders/create", "order.created"),
            ("orders/updated", "order.updated"),
            ("orders/paid", "order.paid"),
            ("orders/cancelled", "order.cancelled"),
            ("orders/fulfilled", "order.fulfilled"),
            ("products/create", "product.created"),
            ("inventory_levels/update", "inventory.updated"),
            ("inventory_items/delete", "inventory_item.deleted"),
            ("customers/create", "customer.created"),
            ("customer.tags_added", "customer.tags_added"),
            ("carts/update", "cart.updated"),
            ("checkouts/create", "checkout.created"),
            ("refunds/create", "refund.created"),
            ("collections/update", "collection.updated"),
            ("fulfillments/create", "fulfillment.created"),
            ("app/uninstalled", "app.uninstalled"),
            ("app_subscriptions/update", "app.subscription_updated"),
            ("shop/update", "shop.updated"),
            ("bulk_operations/finish", "bulk_operation.finished"),
            ("customers/data_request", "privacy.customer_data_requested"),
            ("customers/redact", "privacy.customer_redacted"),
            ("shop/redact", "privacy.shop_redacted"),
            ("planets/land", "shopify.planets.land"),
        ] {
            assert_eq!(mapped_type(&source, topic), event_type);
        }
    }

    #[test]
    fn stripe_types_are_mapped() {
        let source = source("stripe");
        for (topic, event_type) in [
            ("payment_intent.succeeded", "payment.succeeded"),
            ("payment_intent.payment_failed", "payment.failed"),
            ("charge.refunded", "payment.refunded"),
            ("charge.dispute.created", "dispute.created"),
            ("charge.dispute.funds_withdrawn", "dispute.funds_withdrawn"),
            ("customer.subscription.created", "subscription.created"),
            ("customer.subscription.trial_will_end", "subscription.trial_will_end"),
            ("customer.created", "customer.created"),
            ("invoice.paid", "invoice.paid"),
            ("checkout.session.completed", "checkout.completed"),
            ("payout.failed", "payout.failed"),
            ("account.updated", "account.updated"),
            ("v1.billing.meter.error_report_triggered", "stripe.v1.billing.meter.error_report_triggered"),
            (
                "v2.core.account[configuration.merchant].updated",
                "stripe.v2.core.account_configuration.merchant_.updated",
            ),
            ("issuing_card.created", "stripe.issuing_card.created"),
        ] {
            assert_eq!(mapped_type(&source, topic), event_type);
        }
    }
}
