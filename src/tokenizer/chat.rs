//! Chat formats: how a conversation is laid out in tokens.

use super::TokenizerError;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: &'a str,
}

/// A known way to lay out a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFormat {
    /// `<|im_start|>role\ntext<|im_end|>\n`, used by Qwen and others.
    ChatMl,
}

/// The ids of the tokens that stand between the turns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Markers {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl ChatFormat {
    /// Recognises the format that a chat template (Jinja) writes.
    pub fn detect(template: &str) -> Option<Self> {
        (template.contains("<|im_start|>") && template.contains("<|im_end|>")).then_some(Self::ChatMl)
    }

    pub(super) fn markers(self, tokenizer: &tokenizers::Tokenizer) -> Result<Markers, TokenizerError> {
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| TokenizerError::MissingToken(token.to_owned()))
        };
        match self {
            Self::ChatMl => Ok(Markers { start: id("<|im_start|>")?, end: id("<|im_end|>")? }),
        }
    }

    /// Lays out the messages and opens the model's turn.
    pub(super) fn render(
        self,
        messages: &[Message<'_>],
        markers: &Markers,
        encode: impl Fn(&str) -> Result<Vec<u32>, TokenizerError>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::new();
        match self {
            Self::ChatMl => {
                for message in messages {
                    tokens.push(markers.start);
                    tokens.extend(encode(&format!("{}\n{}", chatml_role(message.role), message.text))?);
                    tokens.push(markers.end);
                    tokens.extend(encode("\n")?);
                }
                tokens.push(markers.start);
                tokens.extend(encode(&format!("{}\n", chatml_role(Role::Assistant)))?);
            }
        }
        Ok(tokens)
    }
}

fn chatml_role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}
