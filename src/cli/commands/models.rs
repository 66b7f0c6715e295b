//! `yizhai models`: the catalog and the downloaded models.

use std::io::Write as _;

use crate::{
    catalog::{Catalog, Manifest, ModelStore},
    cli::{
        CommandOutcome,
        args::{ModelsArgs, ModelsCommand, OutputFormat},
        progress::DownloadProgress,
    },
};

pub(in crate::cli) async fn run(args: ModelsArgs) -> anyhow::Result<CommandOutcome> {
    tokio::task::spawn_blocking(|| run_blocking(args)).await??;
    Ok(CommandOutcome::Complete)
}

fn run_blocking(args: ModelsArgs) -> anyhow::Result<()> {
    let catalog = Catalog::builtin()?;
    let store = ModelStore::from_env()?;
    let mut out = anstream::stdout();
    match args.command {
        ModelsCommand::List { format } => write!(out, "{}", list(&catalog, &store, format)?)?,
        ModelsCommand::Pull { id } => {
            let pulled = store.pull(catalog.get(&id)?, &mut DownloadProgress::new(&id, false))?;
            writeln!(out, "{}", pulled.path.display())?;
        }
        ModelsCommand::Verify { id } => {
            let hash = store.verify(catalog.get(&id)?, &mut DownloadProgress::new(&id, false))?;
            writeln!(out, "{id}: SHA-256 {hash} is correct")?;
        }
        ModelsCommand::Path { id } => {
            let manifest = catalog.get(&id)?;
            let path = store
                .installed(manifest)
                .ok_or_else(|| anyhow::anyhow!("{id} is not downloaded; run `yizhai models pull {id}`"))?;
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(())
}

fn list(catalog: &Catalog, store: &ModelStore, format: OutputFormat) -> anyhow::Result<String> {
    let row = |manifest: &Manifest| {
        serde_json::json!({
            "id": manifest.id,
            "name": manifest.name,
            "architecture": manifest.architecture.as_str(),
            "license": manifest.license,
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
                notes.extend((!manifest.verified).then_some("unverified"));
                let line = format!(
                    "{:width$}  {:8}  {size:>12}  {:12}  {}",
                    manifest.id,
                    manifest.architecture.as_str(),
                    manifest.license,
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
