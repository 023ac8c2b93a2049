//! `hooktide apply`: webhooks and event types as a file declares them.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::error::CliError;
use super::{Client, ClientArgs, block_on, output};
use crate::config::Environment;
use crate::service::apply::{self, Declared, Difference, Item, Options, Outcome, Report};

mod target;

#[cfg(test)]
mod tests;

use target::OverHttp;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file that declares webhooks and event types
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Change nothing; say what would be
    #[arg(long)]
    dry_run: bool,
    /// Remove webhooks that an earlier file of the same set made and this one does not name
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(args: &Args, environment: &Environment, out: &mut dyn Write) -> Result<(), CliError> {
    let declared = Declared::read(&args.file, environment).map_err(CliError::Declared)?;
    let client = Client::try_new(&args.client, environment, false)?;
    let options = Options { dry_run: args.dry_run, prune: args.prune };
    let target = OverHttp { client: &client, tenant: declared.tenant.as_deref() };
    let report = block_on(async { Ok(apply::apply(&declared, &target, options).await?) })?;
    if args.client.json {
        return Ok(writeln!(out, "{}", as_json(&report, args.dry_run))?);
    }
    Ok(print(out, &report, args.dry_run)?)
}

fn print(out: &mut dyn Write, report: &Report, dry_run: bool) -> std::io::Result<()> {
    for item in &report.items {
        let (mark, secret, changes) = parts(item);
        if mark != '=' {
            writeln!(out, "{mark} {} {}", item.kind, output::visible(&item.name))?;
        }
        for change in changes {
            writeln!(out, "    {}", difference(change))?;
        }
        if let Some(secret) = secret {
            writeln!(out, "    secret: {} (shown this once)", output::visible(secret))?;
        }
        if matches!(item.outcome, Outcome::Left) {
            writeln!(out, "    is not in the file any more; --prune removes it")?;
        }
    }
    let [added, changed, unchanged, removed, left] = report.counts();
    let would = if dry_run { "would be: " } else { "" };
    writeln!(out, "{would}{added} added, {changed} changed, {unchanged} unchanged, {removed} removed, {left} left")
}

/// The sign of what became of a thing, its secret, and its differences.
fn parts(item: &Item) -> (char, Option<&str>, &[Difference]) {
    match &item.outcome {
        Outcome::Added { secret } => ('+', secret.as_deref(), &[]),
        Outcome::Changed(changes) => ('~', None, changes),
        Outcome::Unchanged => ('=', None, &[]),
        Outcome::Removed => ('-', None, &[]),
        Outcome::Left => ('?', None, &[]),
    }
}

fn difference(change: &Difference) -> String {
    let shown = |value: &Value| output::visible(&value.to_string());
    let field = output::visible(&change.field);
    match (&change.from, &change.to) {
        (None, None) => format!("{field}: another one"),
        (None, Some(to)) => format!("{field}: {}", shown(to)),
        (Some(from), None) => format!("{field}: {} -> (nothing)", shown(from)),
        (Some(from), Some(to)) => format!("{field}: {} -> {}", shown(from), shown(to)),
    }
}

fn as_json(report: &Report, dry_run: bool) -> Value {
    let of = |change: &Difference| json!({ "field": change.field, "from": change.from, "to": change.to });
    let item = |item: &Item| {
        let (_, secret, changes) = parts(item);
        let outcome = match item.outcome {
            Outcome::Added { .. } => "added",
            Outcome::Changed(_) => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Removed => "removed",
            Outcome::Left => "left",
        };
        let mut shown = json!({ "kind": item.kind, "name": item.name, "outcome": outcome });
        if let Some(secret) = secret {
            shown["secret"] = secret.into();
        }
        if !changes.is_empty() {
            shown["changes"] = changes.iter().map(of).collect();
        }
        shown
    };
    json!({ "dry_run": dry_run, "items": report.items.iter().map(item).collect::<Vec<_>>() })
}
