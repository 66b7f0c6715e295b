//! Fills in the prompt templates and lays them out as a conversation with the model.
//!
//! Called by `complete`. The templates are data: those of the build in `prompts.toml`, or a file of the operator's.

use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::summarize::chars;
use crate::{
    task::Task,
    tokenizer::{ChatMessage, ChatRole, Tokenizer, TokenizerError},
};

const BUILTIN: &str = include_str!("prompts.toml");

static DEFAULT: LazyLock<Prompts> =
    LazyLock::new(|| Prompts::parse(BUILTIN).expect("prompts.toml is part of this build and is tested"));

/// The templates of all prompts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    version: String,
    translation: Template,
    heading: Template,
    back: Template,
    summary: Template,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    system: String,
    /// Contains `{text}` once, and `{chars}` if the prompt states a length.
    user: String,
    /// Inserted before the text at a repair; contains `{hint}`.
    #[serde(default)]
    hint: String,
    /// Earlier turns of the conversation, as examples for the model.
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    text: String,
    answer: String,
}

/// An error in a prompt file.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file is not TOML or has unknown or missing fields.
    #[error("invalid prompts: {}", .0.message())]
    Syntax(toml::de::Error),
    /// A template lacks a placeholder or repeats it.
    #[error("invalid prompts: [{template}] needs {placeholder} exactly once in `{field}`")]
    Placeholder {
        /// The template.
        template: &'static str,
        /// The field of the template.
        field: &'static str,
        /// The placeholder.
        placeholder: &'static str,
    },
}

/// The content of one prompt.
#[derive(Debug, Clone, Copy)]
pub(super) enum PromptRequest<'a> {
    /// Translate a chunk of a paragraph.
    Translate {
        text: &'a str,
        /// Words that the translation must contain and an earlier draft lacked; may be empty.
        hint: &'a str,
    },
    /// Translate a headline or heading.
    TranslateHeading {
        text: &'a str,
        /// As for `Translate`.
        hint: &'a str,
    },
    /// Translate an English text back into Chinese.
    TranslateBack { text: &'a str },
    /// Summarize a text.
    Summarize {
        text: &'a str,
        /// Words that an earlier draft invented; may be empty.
        hint: &'a str,
        /// The length stated in the prompt, in characters.
        chars: usize,
        /// The length at which generation stops, in characters.
        limit: usize,
    },
}

impl Prompts {
    /// Returns the prompts of this build.
    pub fn builtin() -> &'static Self {
        &DEFAULT
    }

    /// Parses a prompt file in the format of `src/pipeline/prompts.toml`. The beginning of its hash is appended to the
    /// version, so that cached results of different texts are never confused.
    ///
    /// # Errors
    /// [`PromptError`] if the file is not in that format, or a template lacks a placeholder.
    pub fn parse(text: &str) -> Result<Self, PromptError> {
        let mut prompts: Self = toml::from_str(text).map_err(PromptError::Syntax)?;
        let named = [
            ("translation", &prompts.translation),
            ("heading", &prompts.heading),
            ("back", &prompts.back),
            ("summary", &prompts.summary),
        ];
        for (template, Template { user, hint, .. }) in named {
            for (field, value, placeholder) in [("user", user, "{text}"), ("hint", hint, "{hint}")] {
                // Back-translations are never repaired, so their template needs no hint.
                let is_needed = field == "user" || template != "back";
                if is_needed && value.matches(placeholder).count() != 1 {
                    return Err(PromptError::Placeholder { template, field, placeholder });
                }
            }
        }
        if text != BUILTIN {
            let hash = Sha256::digest(text);
            prompts.version =
                format!("{}+{:02x}{:02x}{:02x}{:02x}", prompts.version, hash[0], hash[1], hash[2], hash[3]);
        }
        Ok(prompts)
    }

    /// Returns the version, for provenance and cache keys.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the token ids of a prompt. An encoder-decoder gets the text alone, without a template.
    pub(super) fn tokens(
        &self,
        request: PromptRequest<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, TokenizerError> {
        let (template, text, hint, chars) = match request {
            PromptRequest::Translate { text, hint } => (&self.translation, text, hint, None),
            PromptRequest::TranslateHeading { text, hint } => (&self.heading, text, hint, None),
            PromptRequest::TranslateBack { text } => (&self.back, text, "", None),
            PromptRequest::Summarize { text, hint, chars, .. } => (&self.summary, text, hint, Some(chars)),
        };
        if let Some(source) = tokenizer.encode_source(text) {
            return source;
        }
        let examples: Vec<(String, &str)> = template
            .examples
            .iter()
            .map(|example| (template.fill(&example.text, "", chars), example.answer.as_str()))
            .collect();
        let user = template.fill(text, hint, chars);
        let mut messages = vec![ChatMessage { role: ChatRole::System, text: &template.system }];
        for (user, answer) in &examples {
            messages.push(ChatMessage { role: ChatRole::User, text: user });
            messages.push(ChatMessage { role: ChatRole::Assistant, text: answer });
        }
        messages.push(ChatMessage { role: ChatRole::User, text: &user });
        tokenizer.encode_chat(&messages)
    }
}

impl PromptRequest<'_> {
    /// Returns the task that the prompt belongs to.
    pub(super) fn task(self) -> Task {
        match self {
            Self::Translate { .. } | Self::TranslateHeading { .. } | Self::TranslateBack { .. } => {
                Task::Translation
            }
            Self::Summarize { .. } => Task::Summary,
        }
    }

    /// Returns `true` if the completion must be English, so that Chinese tokens can be masked out.
    pub(super) fn is_english(self) -> bool {
        match self {
            Self::Translate { .. } | Self::TranslateHeading { .. } => true,
            Self::TranslateBack { .. } | Self::Summarize { .. } => false,
        }
    }

    /// Returns `true` if a completion has exceeded its limit, so that generation can stop.
    pub(super) fn is_overlong(self, completion: &str) -> bool {
        match self {
            Self::Summarize { limit, .. } => chars(completion) > limit,
            _ => false,
        }
    }

    /// Returns the strings at which generation stops.
    pub(super) fn stop_strings(self) -> &'static [&'static str] {
        match self {
            Self::TranslateHeading { .. } => &["\n"],
            _ => &["\n\n"],
        }
    }
}

impl Template {
    fn fill(&self, text: &str, hint: &str, chars: Option<usize>) -> String {
        let mut filled = self.user.clone();
        if !hint.is_empty() {
            // Before the text, so that the completion directly follows the text.
            filled = filled.replace("{text}", &format!("{}\n\n{{text}}", self.hint.replace("{hint}", hint)));
        }
        if let Some(chars) = chars {
            filled = filled.replace("{chars}", &chars.to_string());
        }
        // The text goes in last, so that braces in it are not taken for placeholders.
        filled.replace("{text}", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_braces_in_the_text_and_puts_hints_before_it() {
        let prompts = Prompts::builtin();
        let filled = prompts.summary.fill("集合{chars}与{text}", "", Some(90));
        assert!(filled.contains("约90字") && filled.ends_with("集合{chars}与{text}"), "{filled}");
        let hinted = prompts.translation.fill("正文", "3.5 billion", None);
        assert!(hinted.contains("必须出现：3.5 billion。") && hinted.ends_with("\n\n正文"), "{hinted}");
    }

    #[test]
    fn checks_custom_prompts_and_gives_them_a_version_of_their_own() {
        let custom = BUILTIN.replace("资深", "年轻");
        let version = Prompts::parse(&custom).unwrap().version;
        assert!(version.starts_with(&format!("{}+", Prompts::builtin().version())), "{version}");
        let error = Prompts::parse(&BUILTIN.replacen("{text}\"\"\"", "\"\"\"", 1)).unwrap_err().to_string();
        assert!(error.contains("[translation] needs {text} exactly once in `user`"), "{error}");
        assert!(Prompts::parse("version = 1").unwrap_err().to_string().contains("invalid prompts"));
    }
}
