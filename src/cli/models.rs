//! `yizhai models`: the catalog and the cache of fetched files.

use std::io::Write as _;

use super::{
    Outcome,
    args::{ModelsArgs, ModelsCommand, OutputFormat},
    progress::Download,
};
use crate::catalog::{Catalog, Manifest, Store};

pub(super) async fn run(args: ModelsArgs) -> anyhow::Result<Outcome> {
    tokio::task::spawn_blocking(|| run_blocking(args)).await??;
    Ok(Outcome::Done)
}

fn run_blocking(args: ModelsArgs) -> anyhow::Result<()> {
    let catalog = Catalog::builtin()?;
    let store = Store::from_env()?;
    let mut out = anstream::stdout();
    match args.command {
        ModelsCommand::List { format } => write!(out, "{}", list(&catalog, &store, format)?)?,
        ModelsCommand::Pull { id } => {
            let pulled = store.pull(catalog.get(&id)?, &mut Download::new(&id, false))?;
            writeln!(out, "{}", pulled.path.display())?;
        }
        ModelsCommand::Verify { id } => {
            let hash = store.verify(catalog.get(&id)?, &mut Download::new(&id, false))?;
            writeln!(out, "{id}: SHA-256 {hash} is right")?;
        }
        ModelsCommand::Path { id } => {
            let manifest = catalog.get(&id)?;
            let path = store.installed(manifest).ok_or_else(|| {
                anyhow::anyhow!("{id} is not on this machine; fetch it with `yizhai models pull {id}`")
            })?;
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(())
}

fn list(catalog: &Catalog, store: &Store, format: OutputFormat) -> anyhow::Result<String> {
    let row = |manifest: &Manifest| {
        serde_json::json!({
            "id": manifest.id,
            "name": manifest.name,
            "architecture": manifest.architecture.as_str(),
            "licence": manifest.licence,
            "tasks": manifest.tasks.iter().map(|task| task.as_str()).collect::<Vec<_>>(),
            "quantization": manifest.quantization(),
            "context_length": manifest.context_length,
            "size_bytes": manifest.size_bytes,
            "sha256": manifest.sha256.map(|hash| hash.to_string()),
            "verified": manifest.verified,
            "default": manifest.id == catalog.default().id,
            "installed": store.installed(manifest).is_some(),
        })
    };
    let mut text = String::new();
    match format {
        OutputFormat::Json => {
            let rows: Vec<_> = catalog.iter().map(row).collect();
            text = serde_json::to_string_pretty(&rows)? + "\n";
        }
        OutputFormat::Jsonl => {
            for manifest in catalog.iter() {
                text += &format!("{}\n", row(manifest));
            }
        }
        OutputFormat::Text => {
            let width = catalog.iter().map(|manifest| manifest.id.len()).max().unwrap_or(0);
            for manifest in catalog.iter() {
                let size = manifest.size_bytes.map_or("size unknown".to_owned(), megabytes);
                let mut notes = Vec::new();
                notes.extend((manifest.id == catalog.default().id).then_some("default"));
                notes.extend(store.installed(manifest).is_some().then_some("installed"));
                notes.extend(manifest.tasks.is_empty().then_some("no tasks"));
                notes.extend((!manifest.verified).then_some("not verified yet"));
                let line = format!(
                    "{:width$}  {:8}  {size:>12}  {:12}  {}",
                    manifest.id,
                    manifest.architecture.as_str(),
                    manifest.licence,
                    notes.join(", ")
                );
                text += line.trim_end();
                text += "\n";
            }
        }
    }
    Ok(text)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
