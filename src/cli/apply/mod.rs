//! `hooktide apply`: creates, updates and deletes webhooks and event types as declared in a file.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::error::CliError;
use super::{Client, ClientArgs, block_on, output};
use crate::config::Environment;
use crate::service::apply::{self, ApplyItem, ApplyOptions, ApplyOutcome, ApplyReport, DeclarationFile, Difference};

mod target;

#[cfg(test)]
mod tests;

use target::HttpTarget;

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
    let declared = DeclarationFile::read(&args.file, environment).map_err(CliError::InvalidDeclarations)?;
    let client = Client::try_new(&args.client, environment, false)?;
    let options = ApplyOptions { dry_run: args.dry_run, prune: args.prune };
    let target = HttpTarget { client: &client, tenant: declared.tenant.as_deref() };
    let report = block_on(async { Ok(apply::apply(&declared, &target, options).await?) })?;
    if args.client.json {
        return Ok(writeln!(out, "{}", as_json(&report, args.dry_run))?);
    }
    Ok(print(out, &report, args.dry_run)?)
}

fn print(out: &mut dyn Write, report: &ApplyReport, dry_run: bool) -> std::io::Result<()> {
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
        if matches!(item.outcome, ApplyOutcome::NotPruned) {
            writeln!(out, "    is not in the file any more; --prune removes it")?;
        }
    }
    let [added, changed, unchanged, removed, left] = report.counts();
    let would = if dry_run { "would be: " } else { "" };
    writeln!(out, "{would}{added} added, {changed} changed, {unchanged} unchanged, {removed} removed, {left} left")
}

/// The sign for an item's outcome, its secret, and its differences.
fn parts(item: &ApplyItem) -> (char, Option<&str>, &[Difference]) {
    match &item.outcome {
        ApplyOutcome::Added { secret } => ('+', secret.as_deref(), &[]),
        ApplyOutcome::Changed(changes) => ('~', None, changes),
        ApplyOutcome::Unchanged => ('=', None, &[]),
        ApplyOutcome::Removed => ('-', None, &[]),
        ApplyOutcome::NotPruned => ('?', None, &[]),
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

fn as_json(report: &ApplyReport, dry_run: bool) -> Value {
    let of = |change: &Difference| json!({ "field": change.field, "from": change.from, "to": change.to });
    let item = |item: &ApplyItem| {
        let (_, secret, changes) = parts(item);
        let outcome = match item.outcome {
            ApplyOutcome::Added { .. } => "added",
            ApplyOutcome::Changed(_) => "changed",
            ApplyOutcome::Unchanged => "unchanged",
            ApplyOutcome::Removed => "removed",
            ApplyOutcome::NotPruned => "left",
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
