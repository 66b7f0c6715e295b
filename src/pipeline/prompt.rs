//! The prompts: templates as data, filled in and laid out as the model's conversation.

use std::sync::LazyLock;

use serde::Deserialize;

use super::summarize::chars;
use crate::tokenizer::{Message, Role, Tokenizer, TokenizerError};

/// The templates of this build.
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    toml::from_str(include_str!("prompts.toml")).expect("prompts.toml is part of this build and is tested")
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Templates {
    version: String,
    translation: Template,
    heading: Template,
    summary: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    system: String,
    user: String,
}

/// What the model is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// Translate part of a paragraph.
    Translate(&'a str),
    /// Translate a headline or heading.
    TranslateHeading(&'a str),
    /// Summarise a text in about this many characters.
    Summarize {
        /// The text.
        text: &'a str,
        /// The length that is asked for.
        chars: usize,
        /// The length past which nothing can be kept.
        limit: usize,
    },
}

impl Request<'_> {
    /// The token ids of the prompt.
    pub(super) fn tokens(self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TokenizerError> {
        let (template, text, chars) = match self {
            Self::Translate(text) => (&TEMPLATES.translation, text, None),
            Self::TranslateHeading(text) => (&TEMPLATES.heading, text, None),
            Self::Summarize { text, chars, .. } => (&TEMPLATES.summary, text, Some(chars)),
        };
        let user = template.fill(text, chars);
        tokenizer.chat(&[
            Message { role: Role::System, text: &template.system },
            Message { role: Role::User, text: &user },
        ])
    }

    /// Whether the answer is to be English: then nothing Chinese can be written at all.
    pub(super) fn is_english(self) -> bool {
        match self {
            Self::Translate(_) | Self::TranslateHeading(_) => true,
            Self::Summarize { .. } => false,
        }
    }

    /// Whether an answer is longer than can be kept, so that it need not be written to its end.
    pub(super) fn is_overlong(self, answer: &str) -> bool {
        match self {
            Self::Summarize { limit, .. } => chars(answer) > limit,
            Self::Translate(_) | Self::TranslateHeading(_) => false,
        }
    }

    /// Strings after which nothing of use follows.
    pub(super) fn stop_strings(self) -> &'static [&'static str] {
        match self {
            Self::TranslateHeading(_) => &["\n"],
            Self::Translate(_) | Self::Summarize { .. } => &["\n\n"],
        }
    }
}

impl Template {
    fn fill(&self, text: &str, chars: Option<usize>) -> String {
        let filled = match chars {
            Some(chars) => self.user.replace("{chars}", &chars.to_string()),
            None => self.user.clone(),
        };
        // The text goes in last, so that braces in it are left alone.
        filled.replace("{text}", text)
    }
}

/// The version of the prompts, for provenance and cache keys.
pub(super) fn version() -> &'static str {
    &TEMPLATES.version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_its_places_and_braces_in_the_text_are_left_alone() {
        for template in [&TEMPLATES.translation, &TEMPLATES.heading, &TEMPLATES.summary] {
            assert_eq!(template.user.matches("{text}").count(), 1);
        }
        let filled = TEMPLATES.summary.fill("集合{chars}与{text}", Some(90));
        assert!(filled.contains("约90字") && filled.ends_with("集合{chars}与{text}"), "{filled}");
    }
}
