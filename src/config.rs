//! What the command line and the environment decide, checked and in the program's own types.

use std::{path::PathBuf, str::FromStr};

use crate::{engine::EngineConfig, model::ModelOptions};

/// Which model: one of the catalog, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// The id of a model in the catalog.
    Id(String),
    /// A GGUF file.
    Path(PathBuf),
}

impl FromStr for ModelRef {
    type Err = std::convert::Infallible;

    /// What ends in `.gguf` or holds a path separator is a file, everything else an id.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let is_path = s.ends_with(".gguf") || s.contains(std::path::MAIN_SEPARATOR);
        Ok(if is_path { Self::Path(PathBuf::from(s)) } else { Self::Id(s.to_owned()) })
    }
}

/// Which model to run, and how.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The model; `None` means the catalog's default.
    pub model: Option<ModelRef>,
    /// Where and how it runs.
    pub options: ModelOptions,
    /// How much it takes on at once.
    pub engine: EngineConfig,
    /// A file of prompts; `None` means the ones of the build.
    pub prompts: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_an_id_by_its_looks() {
        for path in ["model.gguf", "./model", "/models/qwen"] {
            assert_eq!(path.parse(), Ok(ModelRef::Path(path.into())));
        }
        assert_eq!("qwen3-1.7b-q8_0".parse(), Ok(ModelRef::Id("qwen3-1.7b-q8_0".to_owned())));
    }
}
