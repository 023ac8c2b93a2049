//! Tests of the requests of the delivery, dead letter and replay commands.

use super::command;
use crate::cli::Cli;
use clap::Parser;

#[test]
fn each_command_sends_its_request() {
    let page = r#"{"data":[],"next_cursor":null}"#;
    for (words, status, body, request, printed) in [
        (
            &["delivery", "list", "--type", "order.*", "--since", "2026-01-31T12:00:00Z", "--search", "a b&c"][..],
            "200 OK",
            page,
            "GET /api/v1/deliveries?limit=50&event_type=order.*&since=2026-01-31T12%3A00%3A00.000Z&q=a+b%26c ",
            "no deliveries\n",
        ),
        (
            &["delivery", "list", "wh_1", "--status", "failed", "--limit", "10", "--event", "evt_1"],
            "200 OK",
            page,
            "GET /api/v1/webhooks/wh_1/deliveries?limit=10&status=failed&event_id=evt_1 ",
            "no deliveries\n",
        ),
        (
            &["delivery", "retry", "dlv_1"],
            "202 Accepted",
            r#"{"id":"dlv_1","status":"pending","next_retry_at":null}"#,
            "POST /api/v1/deliveries/dlv_1/retry ",
            "id: dlv_1\nstatus: pending\n",
        ),
        (
            &["dead-letter", "list", "--reason", "gone"],
            "200 OK",
            page,
            "GET /api/v1/dead-letters?limit=50&failure_reason=gone ",
            "no dead letters\n",
        ),
        (
            &["dead-letter", "show", "wh_1", "dlv_1"],
            "200 OK",
            r#"{"id":"dlv_1","failure_reason":"gone"}"#,
            "GET /api/v1/webhooks/wh_1/dead-letters/dlv_1 ",
            "id: dlv_1\nfailure_reason: gone\n",
        ),
        (
            &["dead-letter", "discard", "wh_1", "dlv_1"],
            "204 No Content",
            "",
            "DELETE /api/v1/webhooks/wh_1/dead-letters/dlv_1 ",
            "dlv_1 discarded\n",
        ),
        (&["replay", "list"], "200 OK", page, "GET /api/v1/replays?limit=50 ", "no replays\n"),
        (
            &["replay", "show", "rpl_1"],
            "200 OK",
            r#"{"id":"rpl_1","status":"cancelled","total":null}"#,
            "GET /api/v1/replays/rpl_1 ",
            "id: rpl_1\nstatus: cancelled\n",
        ),
        (&["replay", "cancel", "rpl_1"], "204 No Content", "", "DELETE /api/v1/replays/rpl_1 ", "rpl_1 cancelled\n"),
    ] {
        let (out, requests) = command(words, &[(status, body)]);
        assert!(requests[0].starts_with(request), "{words:?}: {requests:?}");
        assert_eq!(out.unwrap(), printed, "{words:?}");
    }
    let words = ["replay", "--since", "2026-01-31T12:00:00Z", "--include-unmatched", "--detach"];
    let (_, requests) = command(&words, &[("202 Accepted", r#"{"id":"rpl_1"}"#)]);
    assert!(requests[0].ends_with(r#"{"since":"2026-01-31T12:00:00.000Z","include_unmatched":true}"#), "{requests:?}");
}

#[test]
fn ambiguous_commands_are_usage_errors() {
    for words in [
        &["hooktide", "replay"][..],
        &["hooktide", "replay", "--since", "1h", "list"],
        &["hooktide", "dead-letter", "discard", "wh_1"],
        &["hooktide", "dead-letter", "list", "--reason", "boredom"],
        &["hooktide", "delivery", "retry"],
    ] {
        assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}
