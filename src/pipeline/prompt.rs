//! The prompts: templates as data, filled in and laid out as the model's conversation.

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

/// The templates of every request to the model.
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
    /// Holds `{text}` once, and `{chars}` where a length is asked for.
    user: String,
    /// Added when an earlier answer was found wanting; holds `{hint}`.
    #[serde(default)]
    hint: String,
    /// Turns that are shown to the model as if it had answered so before.
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    text: String,
    answer: String,
}

/// What is wrong with a file of prompts.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// It is no TOML, or has other fields than the ones known.
    #[error("the prompts cannot be read: {}", .0.message())]
    Syntax(toml::de::Error),
    /// A template lacks the place of what it is about.
    #[error("the prompts cannot be used: [{template}] needs {place} exactly once in `{field}`")]
    Place {
        /// The template.
        template: &'static str,
        /// Its field.
        field: &'static str,
        /// What is missing.
        place: &'static str,
    },
}

/// What the model is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// Translate part of a paragraph.
    Translate {
        /// The text.
        text: &'a str,
        /// What must stand in the answer and did not in an earlier one; may be empty.
        hint: &'a str,
    },
    /// Translate a headline or heading.
    TranslateHeading {
        /// The text.
        text: &'a str,
        /// As above.
        hint: &'a str,
    },
    /// Translate an English text back into Chinese.
    TranslateBack {
        /// The text.
        text: &'a str,
    },
    /// Summarise a text in about this many characters.
    Summarize {
        /// The text.
        text: &'a str,
        /// What must not stand in the answer and did in an earlier one; may be empty.
        hint: &'a str,
        /// The length that is asked for.
        chars: usize,
        /// The length past which nothing can be kept.
        limit: usize,
    },
}

impl Prompts {
    /// The prompts of this build.
    pub fn builtin() -> &'static Self {
        &DEFAULT
    }

    /// Reads prompts as they stand in a TOML file of the form of `src/pipeline/prompts.toml`. Their version is
    /// followed by the beginning of their hash, so that results of two texts are never taken for each other.
    ///
    /// # Errors
    /// [`PromptError`] when it is no TOML of that form, or a template has no place for its text.
    pub fn parse(text: &str) -> Result<Self, PromptError> {
        let mut prompts: Self = toml::from_str(text).map_err(PromptError::Syntax)?;
        let named = [
            ("translation", &prompts.translation),
            ("heading", &prompts.heading),
            ("back", &prompts.back),
            ("summary", &prompts.summary),
        ];
        for (template, Template { user, hint, .. }) in named {
            for (field, value, place) in [("user", user, "{text}"), ("hint", hint, "{hint}")] {
                // What nothing is ever added to needs no hint.
                let is_needed = field == "user" || template != "back";
                if is_needed && value.matches(place).count() != 1 {
                    return Err(PromptError::Place { template, field, place });
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

    /// The version, for provenance and cache keys.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The token ids of a request's prompt; for a model that takes sources, its text alone.
    pub(super) fn tokens(
        &self,
        request: Request<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, TokenizerError> {
        let (template, text, hint, chars) = match request {
            Request::Translate { text, hint } => (&self.translation, text, hint, None),
            Request::TranslateHeading { text, hint } => (&self.heading, text, hint, None),
            Request::TranslateBack { text } => (&self.back, text, "", None),
            Request::Summarize { text, hint, chars, .. } => (&self.summary, text, hint, Some(chars)),
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

impl Request<'_> {
    /// The task that it is a part of.
    pub(super) fn task(self) -> Task {
        match self {
            Self::Translate { .. } | Self::TranslateHeading { .. } | Self::TranslateBack { .. } => {
                Task::Translation
            }
            Self::Summarize { .. } => Task::Summary,
        }
    }

    /// Whether the answer is to be English: then nothing Chinese can be written at all.
    pub(super) fn is_english(self) -> bool {
        match self {
            Self::Translate { .. } | Self::TranslateHeading { .. } => true,
            Self::TranslateBack { .. } | Self::Summarize { .. } => false,
        }
    }

    /// Whether an answer is longer than can be kept, so that it need not be written to its end.
    pub(super) fn is_overlong(self, answer: &str) -> bool {
        match self {
            Self::Summarize { limit, .. } => chars(answer) > limit,
            _ => false,
        }
    }

    /// Strings after which nothing of use follows.
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
            // Before the text, so that the answer follows what it is about.
            filled = filled.replace("{text}", &format!("{}\n\n{{text}}", self.hint.replace("{hint}", hint)));
        }
        if let Some(chars) = chars {
            filled = filled.replace("{chars}", &chars.to_string());
        }
        // The text goes in last, so that braces in it are left alone.
        filled.replace("{text}", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_the_text_are_left_alone_and_hints_come_before_it() {
        let prompts = Prompts::builtin();
        let filled = prompts.summary.fill("集合{chars}与{text}", "", Some(90));
        assert!(filled.contains("约90字") && filled.ends_with("集合{chars}与{text}"), "{filled}");
        let hinted = prompts.translation.fill("正文", "3.5 billion", None);
        assert!(hinted.contains("必须出现：3.5 billion。") && hinted.ends_with("\n\n正文"), "{hinted}");
    }

    #[test]
    fn prompts_of_ones_own_are_checked_and_have_a_version_of_their_own() {
        let own = BUILTIN.replace("资深", "年轻");
        let version = Prompts::parse(&own).unwrap().version;
        assert!(version.starts_with(&format!("{}+", Prompts::builtin().version())), "{version}");
        let error = Prompts::parse(&BUILTIN.replacen("{text}\"\"\"", "\"\"\"", 1)).unwrap_err().to_string();
        assert!(error.contains("[translation] needs {text} exactly once in `user`"), "{error}");
        assert!(Prompts::parse("version = 1").unwrap_err().to_string().contains("cannot be read"));
    }
}
