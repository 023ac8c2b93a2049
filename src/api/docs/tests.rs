use serde_json::Value;

use super::*;
use crate::http::ProblemCode;

async fn text(path: &str) -> String {
    use http_body_util::BodyExt as _;
    let response = response_for(path).unwrap_or_else(|| panic!("{path} is not there"));
    #[expect(clippy::disallowed_methods, reason = "the body is whole in memory already")]
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn each_operation_is_on_the_page_once_and_each_link_leads_to_its_place() {
    let page = text("/docs").await;
    let document: Value = serde_json::from_str(JSON).unwrap();
    let items = document["paths"].as_object().unwrap().values().filter_map(Value::as_object);
    let mut operations = 0;
    for id in items.flat_map(|item| item.values()).filter_map(|operation| operation["operationId"].as_str()) {
        operations += 1;
        assert_eq!(page.matches(&format!("<section id=\"{id}\">")).count(), 1, "{id}");
    }
    assert!(operations > 30, "{operations}");
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link} leads nowhere");
    }
}

#[tokio::test]
async fn the_link_of_each_error_leads_to_its_anchor() {
    let page = text("/docs/errors").await;
    for code in ProblemCode::ALL {
        assert!(page.contains(&format!("id=\"{}\"", code.as_str())), "{code:?}");
    }
}

#[tokio::test]
async fn nothing_is_loaded_from_elsewhere_and_no_script_runs() {
    for path in ["/docs", "/docs/errors"] {
        let page = text(path).await;
        assert!(!page.contains("<script") && !page.contains(" style=") && !page.contains("@import"), "{path}");
        for loaded in page.split("<link").skip(1) {
            assert!(loaded.starts_with(" rel=\"stylesheet\" href=\"/docs/style.css\">"), "{loaded:.60}");
        }
        let headers = response_for(path).unwrap().headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    }
    assert!(!STYLE.contains("url(") && response_for("/docs/other").is_none());
}

#[test]
fn markup_in_texts_is_shown_and_not_obeyed() {
    assert_eq!(html::Escaped("<a href=\"x\">&'").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    assert_eq!(markdown::line("a `<b>` <script>x</script>"), "a <code>&lt;b&gt;</code> &lt;script&gt;x&lt;/script&gt;");
    assert_eq!(markdown::blocks("## some_code"), "<h2 id=\"some_code\">some_code</h2>\n");
}
