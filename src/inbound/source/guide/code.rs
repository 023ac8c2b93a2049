//! Generates programs that send one signed event, in shell, Python, Node and Go. Each uses only the standard library of its
//! language.

use std::fmt::Write as _;

use serde_json::Value;

use super::example::{ExampleRequest, ID, NOW};
use super::signing::{KeyFormat, SigningPart, SigningSteps, TimeFormat, first, header};
use crate::model::header::JSON;
use crate::signature::RawScheme;

/// A string literal for Python, JavaScript and Go. All of them accept JSON strings.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A quoted word for the shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The body as a quoted word for the shell, with the current time in place of [`NOW`].
fn shell_body(sample: &ExampleRequest) -> String {
    word(&sample.text).replace(NOW, "'\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"'")
}

pub(super) fn shell(url: &str, sample: &ExampleRequest, signing: Option<&SigningSteps>, scheme: &RawScheme) -> String {
    let mut headers = vec![word("Content-Type: application/json")];
    headers.extend(sample.headers.iter().map(|(name, value)| word(&format!("{name}: {value}"))));
    let Some(signing) = signing else {
        let mut credentials = String::new();
        match (&*scheme.scheme, first(scheme.sig.as_ref()).and_then(header)) {
            ("basic", _) => credentials.push_str(" -u \"$WEBHOOK_SECRET\""),
            ("token", Some(name)) => {
                headers.push(
                    word(&format!("{name}: {}", scheme.prefix.as_deref().unwrap_or_default())) + "\"$WEBHOOK_SECRET\"",
                );
            }
            _ => {}
        }
        let headers: String = headers.iter().map(|header| format!(" -H {header}")).collect();
        return format!("curl -X POST {}{credentials}{headers} --data-binary {}\n", word(url), shell_body(sample));
    };
    let piece = |piece: &SigningPart| match piece {
        SigningPart::Text(text) => word(text),
        SigningPart::Body => "\"$BODY\"".to_owned(),
        SigningPart::Time => "\"$TIME\"".to_owned(),
        SigningPart::Id => word(ID),
        SigningPart::Method => "POST".to_owned(),
        SigningPart::Url => word(url),
        SigningPart::Signature => "\"$SIGNATURE\"".to_owned(),
    };
    let joined = |pieces: &[SigningPart]| pieces.iter().map(piece).collect::<String>();
    let hex = "od -An -v -tx1 | tr -d ' \\n'";
    let key = match signing.key {
        KeyFormat::Utf8 => format!("$(printf %s \"$WEBHOOK_SECRET\" | {hex})"),
        KeyFormat::Hex => "$WEBHOOK_SECRET".to_owned(),
        KeyFormat::Base64 => format!("$(printf %s \"$WEBHOOK_SECRET\" | base64 -d | {hex})"),
        KeyFormat::Whsec => format!("$(printf %s \"${{WEBHOOK_SECRET#whsec_}}\" | base64 -d | {hex})"),
    };
    let encode = if signing.is_base64 { "base64 | tr -d '\\n'" } else { hex };
    let mut text = format!("BODY={}\n", shell_body(sample));
    if let Some(time) = signing.time {
        let command = match time {
            TimeFormat::Seconds => "$(date +%s)",
            TimeFormat::Millis => "$(date +%s)000",
            TimeFormat::Rfc3339 => "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
        };
        text += &format!("TIME={command}\n");
    }
    text += &format!("KEY={key}\n");
    text += &format!(
        "SIGNATURE=$(printf %s {} | openssl dgst -{} -mac HMAC -macopt \"hexkey:$KEY\" -binary | {encode})\n",
        joined(&signing.signed),
        signing.alg
    );
    headers.extend(signing.time_header.iter().map(|name| word(&format!("{name}: ")) + "\"$TIME\""));
    headers.push(word(&format!("{}: ", signing.header)) + &joined(&signing.value));
    let headers: String = headers.iter().map(|header| format!(" -H {header}")).collect();
    text + &format!("curl -X POST {}{headers} --data-binary \"$BODY\"\n", word(url))
}

/// The headers of a request, as names and expressions.
fn headers(sample: &ExampleRequest, signing: &SigningSteps, time: &str, value: String) -> Vec<(String, String)> {
    let mut headers = vec![("Content-Type".to_owned(), quoted(JSON))];
    headers.extend(sample.headers.iter().map(|(name, value)| (name.clone(), quoted(value))));
    headers.extend(signing.time_header.iter().map(|name| (name.clone(), time.to_owned())));
    headers.push((signing.header.clone(), value));
    headers
}

pub(super) fn python(url: &str, sample: &ExampleRequest, signing: &SigningSteps) -> String {
    let now = "datetime.now(timezone.utc).strftime(\"%Y-%m-%dT%H:%M:%SZ\")";
    let mut modules = vec!["hashlib", "hmac", "os", "urllib.request"];
    if signing.is_base64 || matches!(signing.key, KeyFormat::Base64 | KeyFormat::Whsec) {
        modules.push("base64");
    }
    if matches!(signing.time, Some(TimeFormat::Seconds | TimeFormat::Millis)) {
        modules.push("time");
    }
    modules.sort_unstable();
    let mut text: String = modules.iter().map(|module| format!("import {module}\n")).collect();
    if sample.has_now || signing.time == Some(TimeFormat::Rfc3339) {
        text += "from datetime import datetime, timezone\n";
    }
    let body = if sample.has_now {
        format!("r'{}'.replace(\"{NOW}\", {now}).encode()", sample.text)
    } else {
        format!("r'{}'.encode()", sample.text)
    };
    let key = match signing.key {
        KeyFormat::Utf8 => "os.environ[\"WEBHOOK_SECRET\"].encode()",
        KeyFormat::Hex => "bytes.fromhex(os.environ[\"WEBHOOK_SECRET\"])",
        KeyFormat::Base64 => "base64.b64decode(os.environ[\"WEBHOOK_SECRET\"])",
        KeyFormat::Whsec => "base64.b64decode(os.environ[\"WEBHOOK_SECRET\"].removeprefix(\"whsec_\"))",
    };
    text += &format!("\nurl = {}\nkey = {key}\nbody = {body}\n", quoted(url));
    match signing.time {
        Some(TimeFormat::Seconds) => text += "timestamp = str(int(time.time()))\n",
        Some(TimeFormat::Millis) => text += "timestamp = str(int(time.time() * 1000))\n",
        Some(TimeFormat::Rfc3339) => text += &format!("timestamp = {now}\n"),
        None => {}
    }
    let bytes = |piece: &SigningPart| match piece {
        SigningPart::Text(text) => format!("{}.encode()", quoted(text)),
        SigningPart::Body | SigningPart::Signature => "body".to_owned(),
        SigningPart::Time => "timestamp.encode()".to_owned(),
        SigningPart::Id => format!("{}.encode()", quoted(ID)),
        SigningPart::Method => "b\"POST\"".to_owned(),
        SigningPart::Url => "url.encode()".to_owned(),
    };
    let signed = signing.signed.iter().map(bytes).collect::<Vec<_>>().join(" + ");
    let digest = format!("hmac.new(key, {signed}, hashlib.{})", signing.alg);
    text += &if signing.is_base64 {
        format!("signature = base64.b64encode({digest}.digest()).decode()\n")
    } else {
        format!("signature = {digest}.hexdigest()\n")
    };
    let value = value(&signing.value, "timestamp", " + ");
    text += "headers = {\n";
    for (name, value) in headers(sample, signing, "timestamp", value) {
        let _ = writeln!(text, "    {}: {value},", quoted(&name));
    }
    text + "}\nrequest = urllib.request.Request(url, data=body, headers=headers, method=\"POST\")\n\
        with urllib.request.urlopen(request) as answer:\n    print(answer.status, answer.read().decode())\n"
}

/// The header value with the signature, as an expression.
fn value(pieces: &[SigningPart], time: &str, join: &str) -> String {
    let parts = pieces.iter().map(|piece| match piece {
        SigningPart::Text(text) => quoted(text),
        SigningPart::Time => time.to_owned(),
        _ => "signature".to_owned(),
    });
    parts.collect::<Vec<_>>().join(join)
}

pub(super) fn node(url: &str, sample: &ExampleRequest, signing: &SigningSteps) -> String {
    let now = "new Date().toISOString()";
    let key = match signing.key {
        KeyFormat::Utf8 => "process.env.WEBHOOK_SECRET",
        KeyFormat::Hex => "Buffer.from(process.env.WEBHOOK_SECRET, \"hex\")",
        KeyFormat::Base64 => "Buffer.from(process.env.WEBHOOK_SECRET, \"base64\")",
        KeyFormat::Whsec => "Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, \"\"), \"base64\")",
    };
    let replace = if sample.has_now { format!(".replace(\"{NOW}\", {now})") } else { String::new() };
    let mut text = format!(
        "import {{ createHmac }} from \"node:crypto\";\n\nconst url = {};\nconst key = {key};\n\
         const body = String.raw`{}`{replace};\n",
        quoted(url),
        sample.text
    );
    match signing.time {
        Some(TimeFormat::Seconds) => text += "const timestamp = String(Math.floor(Date.now() / 1000));\n",
        Some(TimeFormat::Millis) => text += "const timestamp = String(Date.now());\n",
        Some(TimeFormat::Rfc3339) => text += &format!("const timestamp = {now};\n"),
        None => {}
    }
    let _ = write!(text, "const signature = createHmac({}, key)", quoted(signing.alg));
    for piece in &signing.signed {
        let part = match piece {
            SigningPart::Text(text) => quoted(text),
            SigningPart::Body | SigningPart::Signature => "body".to_owned(),
            SigningPart::Time => "timestamp".to_owned(),
            SigningPart::Id => quoted(ID),
            SigningPart::Method => quoted("POST"),
            SigningPart::Url => "url".to_owned(),
        };
        let _ = write!(text, ".update({part})");
    }
    let _ = writeln!(text, ".digest({});", quoted(if signing.is_base64 { "base64" } else { "hex" }));
    text += "const headers = {\n";
    for (name, value) in headers(sample, signing, "timestamp", value(&signing.value, "timestamp", " + ")) {
        let _ = writeln!(text, "  {}: {value},", quoted(&name));
    }
    text + "};\nconst answer = await fetch(url, { method: \"POST\", headers, body });\n\
        console.log(answer.status, await answer.text());\n"
}

/// The imports of the Go program, in the order of gofmt.
fn go_packages(sample: &ExampleRequest, signing: &SigningSteps, hash: &'static str) -> Vec<&'static str> {
    let mut packages = vec!["bytes", "crypto/hmac", "fmt", "io", "net/http", "os"];
    packages.push(hash);
    if signing.is_base64 || matches!(signing.key, KeyFormat::Base64 | KeyFormat::Whsec) {
        packages.push("encoding/base64");
    }
    if !signing.is_base64 || signing.key == KeyFormat::Hex {
        packages.push("encoding/hex");
    }
    if matches!(signing.time, Some(TimeFormat::Seconds | TimeFormat::Millis)) {
        packages.push("strconv");
    }
    if sample.has_now || signing.key == KeyFormat::Whsec {
        packages.push("strings");
    }
    if sample.has_now || signing.time.is_some() {
        packages.push("time");
    }
    packages.sort_unstable();
    packages
}

pub(super) fn go(url: &str, sample: &ExampleRequest, signing: &SigningSteps) -> String {
    let now = "time.Now().UTC().Format(time.RFC3339)";
    let hash = match signing.alg {
        "sha1" => ("crypto/sha1", "sha1.New"),
        "sha512" => ("crypto/sha512", "sha512.New"),
        _ => ("crypto/sha256", "sha256.New"),
    };
    let is_decoded = signing.key != KeyFormat::Utf8;
    let mut text = "package main\n\nimport (\n".to_owned();
    text.extend(go_packages(sample, signing, hash.0).iter().map(|package| format!("\t\"{package}\"\n")));
    text += &format!(")\n\nfunc main() {{\n\turl := {}\n", quoted(url));
    text += &if sample.has_now {
        format!("\tbody := []byte(strings.ReplaceAll(`{}`, \"{NOW}\", {now}))\n", sample.text)
    } else {
        format!("\tbody := []byte(`{}`)\n", sample.text)
    };
    let secret = "os.Getenv(\"WEBHOOK_SECRET\")";
    text += &match signing.key {
        KeyFormat::Utf8 => format!("\tkey := []byte({secret})\n"),
        KeyFormat::Hex => format!("\tkey, err := hex.DecodeString({secret})\n"),
        KeyFormat::Base64 => format!("\tkey, err := base64.StdEncoding.DecodeString({secret})\n"),
        KeyFormat::Whsec => {
            format!("\tkey, err := base64.StdEncoding.DecodeString(strings.TrimPrefix({secret}, \"whsec_\"))\n")
        }
    };
    if is_decoded {
        text += "\tif err != nil {\n\t\tpanic(err)\n\t}\n";
    }
    match signing.time {
        Some(TimeFormat::Seconds) => text += "\ttimestamp := strconv.FormatInt(time.Now().Unix(), 10)\n",
        Some(TimeFormat::Millis) => text += "\ttimestamp := strconv.FormatInt(time.Now().UnixMilli(), 10)\n",
        Some(TimeFormat::Rfc3339) => text += &format!("\ttimestamp := {now}\n"),
        None => {}
    }
    text += &format!("\tmac := hmac.New({}, key)\n", hash.1);
    for piece in &signing.signed {
        let part = match piece {
            SigningPart::Text(text) => format!("[]byte({})", quoted(text)),
            SigningPart::Body | SigningPart::Signature => "body".to_owned(),
            SigningPart::Time => "[]byte(timestamp)".to_owned(),
            SigningPart::Id => format!("[]byte({})", quoted(ID)),
            SigningPart::Method => "[]byte(\"POST\")".to_owned(),
            SigningPart::Url => "[]byte(url)".to_owned(),
        };
        let _ = writeln!(text, "\tmac.Write({part})");
    }
    let encode = if signing.is_base64 { "base64.StdEncoding.EncodeToString" } else { "hex.EncodeToString" };
    text += &format!("\tsignature := {encode}(mac.Sum(nil))\n\n");
    text += "\trequest, err := http.NewRequest(\"POST\", url, bytes.NewReader(body))\n\tif err != nil {\n\t\tpanic(err)\n\t}\n";
    for (name, value) in headers(sample, signing, "timestamp", value(&signing.value, "timestamp", " + ")) {
        let _ = writeln!(text, "\trequest.Header.Set({}, {value})", quoted(&name));
    }
    text + "\tanswer, err := http.DefaultClient.Do(request)\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\
        \tdefer answer.Body.Close()\n\ttext, err := io.ReadAll(answer.Body)\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\
        \tfmt.Println(answer.StatusCode, string(text))\n}\n"
}
