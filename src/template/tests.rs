//! Tests of the template syntax with examples, and property tests for any text.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX};

type Parsed = Result<Template<String>, TemplateError<&'static str>>;

/// Accepts the names `a`, `b.c`, `a{b`, ` a` and the empty name.
fn name(name: &str) -> Result<String, &'static str> {
    if ["a", "b.c", "a{b", " a", ""].contains(&name) { Ok(name.to_owned()) } else { Err("not known") }
}

fn parse(text: &str) -> Parsed {
    Template::parse(text, name)
}

fn marked(text: &str) -> Parsed {
    Template::parse_as(Syntax::Marked, text, name)
}

/// The parts as `text` and `<name>`, joined by `|`.
fn shown(parsed: &Parsed) -> Result<String, TemplateError<&'static str>> {
    let show = |part: &TemplatePart<String>| match part {
        TemplatePart::Text(text) => text.to_string(),
        TemplatePart::Placeholder(name) => format!("<{name}>"),
    };
    parsed.clone().map(|template| template.parts().iter().map(show).collect::<Vec<_>>().join("|"))
}

#[test]
fn text_is_parsed_into_literals_and_placeholders() {
    for (text, parts) in [
        ("", ""),
        ("x", "x"),
        ("{a}", "<a>"),
        ("{a}{b.c}", "<a>|<b.c>"),
        ("x {a}.{}", "x |<a>|.|<>"),
        ("{a}é{a}", "<a>|é|<a>"),
        ("{ a}", "< a>"),
        ("{a{b}", "<a{b>"),
        ("{{", "{"),
        ("}}", "}"),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{|<a>|}"),
        ("{{{{{a}", "{{|<a>"),
        ("{a}}}x", "<a>|}x"),
        ("x{{y}}z{a}", "x{y}z|<a>"),
        (r#"{{"n":"{a}"}}"#, r#"{"n":"|<a>|"}"#),
        ("%{a}", "%|<a>"),
    ] {
        assert_eq!(shown(&parse(text)), Ok(parts.to_owned()), "{text}");
    }
}

#[test]
fn errors_contain_the_position() {
    let unbalanced = |at| TemplateError::Unbalanced { at };
    let unknown = |at| TemplateError::Placeholder { at, error: "not known" };
    for (text, error) in [
        ("{", unbalanced(1)),
        ("}", unbalanced(1)),
        ("é{a", unbalanced(2)),
        ("a}", unbalanced(2)),
        ("{a}}", unbalanced(4)),
        ("{a}{{b}", unbalanced(7)),
        ("{{{a", unbalanced(3)),
        ("{x}", unknown(1)),
        ("é{a}{x}", unknown(5)),
        ("{{{x}}}", unknown(3)),
        ("{x", unbalanced(1)),
        (r#"{"n":{a}}"#, unknown(1)),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
    }
    assert_eq!(unknown(5).to_string(), "not known (at character 5)");
    let words = "a brace is not closed or not opened; {{ and }} stand for braces (at character 1)";
    assert_eq!(unbalanced(1).to_string(), words);
}

#[test]
fn marked_syntax_keeps_plain_braces() {
    for (text, parts) in [
        ("", ""),
        ("{a}", "{a}"),
        ("%{a}", "<a>"),
        (r##"{"n":"#{a}","m":{"t":"x%{b.c}"}}"##, r#"{"n":|<a>|,"m":{"t":"x|<b.c>|"}}"#),
        ("{{%{a}}}", "{{|<a>|}}"),
        ("%{x}", "%{x}"),
        ("%{x%{a}", "%{x|<a>"),
        ("%{", "%{"),
        ("%{a", "%{a"),
        ("\"#{a}", "\"#{a}"),
        ("#{a}", "#{a}"),
        ("%%{a}", "%|<a>"),
    ] {
        assert_eq!(shown(&marked(text)), Ok(parts.to_owned()), "{text}");
    }
}

#[test]
fn length_and_parts_are_bounded() {
    let long = "x".repeat(TEMPLATE_BYTES_MAX);
    assert_eq!(parse(&long).unwrap().parts().len(), 1);
    let longer = parse(&(long + "x"));
    assert_eq!(longer, Err(TemplateError::TooLong { bytes: TEMPLATE_BYTES_MAX + 1 }));
    let placeholders = "{a}".repeat(TEMPLATE_PARTS_MAX);
    assert_eq!(parse(&placeholders).unwrap().parts().len(), TEMPLATE_PARTS_MAX);
    for more in ["x", "{a}", "{{"] {
        assert_eq!(parse(&format!("{placeholders}{more}")), Err(TemplateError::TooManyParts));
    }
    assert_eq!(marked(&"%{a}".repeat(TEMPLATE_PARTS_MAX + 1)), Err(TemplateError::TooManyParts));
}

#[test]
fn a_template_is_appended_to_a_buffer() {
    let template = parse("{{{a}}}-{b.c}").unwrap();
    let mut text = "> ".to_owned();
    template.write(&mut text, |name, out| out.push_str(name));
    assert_eq!(text, "> {a}-b.c");
    let mut bytes = BytesMut::new();
    template.write(&mut bytes, |name, out| out.extend_from_slice(name.as_bytes()));
    assert_eq!(&*bytes, b"{a}-b.c");
    let mut text = String::new();
    let missing = |name: &String, out: &mut String| (name == "a").then(|| out.push_str(name));
    assert_eq!(template.try_write(&mut text, missing), None);
    assert_eq!(parse("x{a}").unwrap().try_write(&mut text, missing), Some(()));
    assert_eq!(template.placeholders().collect::<Vec<_>>(), ["a", "b.c"]);
    assert_eq!(template.texts().collect::<Vec<_>>(), ["{", "}-"]);
}

#[test]
fn the_builder_joins_texts_and_keeps_braces() {
    let mut builder = TemplateBuilder::default();
    builder.text("{");
    builder.text("\"n\":");
    builder.placeholder(1);
    builder.text("");
    builder.placeholder(2);
    builder.text("}");
    let text = |text: &str| TemplatePart::Text(text.into());
    let parts = [text("{\"n\":"), TemplatePart::Placeholder(1), TemplatePart::Placeholder(2), text("}")];
    assert_eq!(builder.build().parts(), parts);
    assert_eq!(TemplateBuilder::<u8>::default().build(), Template::default());
}

/// A template that writes the text.
fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

proptest! {
    #[test]
    fn literals_are_never_adjacent_and_parts_reproduce_the_text(text in "([a{}é%\"#]|\\{a\\}|%\\{a\\}){0,12}") {
        for parsed in [parse(&text), marked(&text)] {
            let Ok(template) = parsed else { continue };
            prop_assert!(template.texts().all(|text| !text.is_empty()));
            let is_text = |part: &TemplatePart<String>| matches!(part, TemplatePart::Text(_));
            prop_assert!(template.parts().windows(2).all(|pair| !(is_text(&pair[0]) && is_text(&pair[1]))));
        }
        // Writing the parts as a template gives the text again.
        if let Ok(template) = parse(&text) {
            let write = |part: &TemplatePart<String>| match part {
                TemplatePart::Text(text) => escaped(text),
                TemplatePart::Placeholder(name) => format!("{{{name}}}"),
            };
            prop_assert_eq!(template.parts().iter().map(write).collect::<String>(), text);
        }
    }

    #[test]
    fn any_text_can_be_escaped(text in any::<String>()) {
        let template = Template::<Infallible>::parse(&escaped(&text), |name| Err(name.to_owned())).unwrap();
        prop_assert_eq!(template.texts().collect::<String>(), text);
    }

    #[test]
    fn without_placeholders_a_marked_text_is_itself(text in "[%{}\"#a]{0,20}") {
        let template = Template::<Infallible>::parse_as(Syntax::Marked, &text, |_| Err(())).unwrap();
        prop_assert_eq!(template.texts().collect::<String>(), text);
    }
}
