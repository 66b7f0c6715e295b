//! Chat formats: how a conversation is laid out in tokens.
//!
//! A format is data: what a conversation begins with, what a turn is made of, and how the model's turn opens. Markers are
//! tokens, put in by their ids, so that no text can forge one; what stands between two of them is encoded in one piece.

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
    /// `<|im_start|>role\ntext<|im_end|>\n`: Qwen2.5, SmolLM2 and others.
    ChatMl,
    /// ChatML where an empty thought opens the answer, so that the model does not think: Qwen3.
    Qwen3,
    /// `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>`: Llama 3.
    Llama3,
    /// `<start_of_turn>role\ntext<end_of_turn>\n`, instructions within the first turn of the user: Gemma.
    Gemma,
}

/// A part of a layout.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// A token of the vocabulary.
    Marker(&'static str),
    /// Text; `{role}` and `{text}` stand for those of the message.
    Text(&'static str),
}
use Piece::{Marker, Text};

/// How a conversation is laid out.
struct Layout {
    /// What it begins with.
    begin: &'static [Piece],
    /// A message.
    turn: &'static [Piece],
    /// What comes before the model's answer.
    answer: &'static [Piece],
    /// The marker that ends a message, and the answer.
    end: &'static str,
    /// What the model is called.
    assistant: &'static str,
    /// Whether the instructions are a message of their own; else they stand before the text of the next one.
    system_turn: bool,
}

const CHAT_ML: Layout = Layout {
    begin: &[],
    turn: &[Marker("<|im_start|>"), Text("{role}\n{text}"), Marker("<|im_end|>"), Text("\n")],
    answer: &[Marker("<|im_start|>"), Text("assistant\n")],
    end: "<|im_end|>",
    assistant: "assistant",
    system_turn: true,
};

const QWEN3: Layout = Layout {
    answer: &[
        Marker("<|im_start|>"),
        Text("assistant\n"),
        Marker("<think>"),
        Text("\n\n"),
        Marker("</think>"),
        Text("\n\n"),
    ],
    ..CHAT_ML
};

const LLAMA3: Layout = Layout {
    begin: &[Marker("<|begin_of_text|>")],
    turn: &[
        Marker("<|start_header_id|>"),
        Text("{role}"),
        Marker("<|end_header_id|>"),
        Text("\n\n{text}"),
        Marker("<|eot_id|>"),
    ],
    answer: &[Marker("<|start_header_id|>"), Text("assistant"), Marker("<|end_header_id|>"), Text("\n\n")],
    end: "<|eot_id|>",
    assistant: "assistant",
    system_turn: true,
};

const GEMMA: Layout = Layout {
    begin: &[Marker("<bos>")],
    turn: &[Marker("<start_of_turn>"), Text("{role}\n{text}"), Marker("<end_of_turn>"), Text("\n")],
    answer: &[Marker("<start_of_turn>"), Text("model\n")],
    end: "<end_of_turn>",
    assistant: "model",
    system_turn: false,
};

impl ChatFormat {
    /// Recognises the format that a chat template (Jinja) writes.
    pub fn detect(template: &str) -> Option<Self> {
        let has = |markers: [&str; 2]| markers.iter().all(|marker| template.contains(marker));
        if has(["<|im_start|>", "<|im_end|>"]) {
            // The switch that only a model with optional thoughts has.
            return Some(if template.contains("enable_thinking") { Self::Qwen3 } else { Self::ChatMl });
        }
        if has(["<|start_header_id|>", "<|eot_id|>"]) {
            return Some(Self::Llama3);
        }
        has(["<start_of_turn>", "<end_of_turn>"]).then_some(Self::Gemma)
    }

    fn layout(self) -> &'static Layout {
        match self {
            Self::ChatMl => &CHAT_ML,
            Self::Qwen3 => &QWEN3,
            Self::Llama3 => &LLAMA3,
            Self::Gemma => &GEMMA,
        }
    }

    /// The format over the vocabulary of a tokenizer.
    pub(super) fn over(self, tokenizer: &tokenizers::Tokenizer) -> Result<Chat, TokenizerError> {
        let layout = self.layout();
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| TokenizerError::MissingToken(token.to_owned()))
        };
        let pieces = |pieces: &[Piece]| {
            let piece = |piece: &Piece| {
                Ok(match *piece {
                    Marker(token) => Part::Token(id(token)?),
                    Text(text) => Part::Text(text),
                })
            };
            pieces.iter().map(piece).collect::<Result<Vec<_>, TokenizerError>>()
        };
        Ok(Chat {
            layout,
            begin: pieces(layout.begin)?,
            turn: pieces(layout.turn)?,
            answer: pieces(layout.answer)?,
            end: id(layout.end)?,
        })
    }
}

/// A layout whose markers are ids.
pub(super) struct Chat {
    layout: &'static Layout,
    begin: Vec<Part>,
    turn: Vec<Part>,
    answer: Vec<Part>,
    /// The token that ends an answer.
    pub(super) end: u32,
}

enum Part {
    Token(u32),
    Text(&'static str),
}

impl Chat {
    /// Lays out the messages and opens the model's turn.
    pub(super) fn render(
        &self,
        messages: &[Message<'_>],
        encode: impl Fn(&str) -> Result<Vec<u32>, TokenizerError>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::new();
        let mut write = |parts: &[Part], role: &str, text: &str| {
            for part in parts {
                match part {
                    Part::Token(id) => tokens.push(*id),
                    // The text goes in last, so that braces in it are left alone.
                    Part::Text(part) => {
                        tokens.extend(encode(&part.replace("{role}", role).replacen("{text}", text, 1))?);
                    }
                }
            }
            Ok::<_, TokenizerError>(())
        };
        write(&self.begin, "", "")?;
        let mut instructions = String::new();
        for Message { role, text } in messages {
            let role = match role {
                Role::System if !self.layout.system_turn => {
                    instructions = format!("{text}\n\n");
                    continue;
                }
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => self.layout.assistant,
            };
            write(&self.turn, role, &(std::mem::take(&mut instructions) + text))?;
        }
        write(&self.answer, "", "")?;
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{AddedToken, models::bpe::BPE};

    use super::*;

    const MARKERS: [&str; 10] = [
        "<|im_start|>",
        "<|im_end|>",
        "<think>",
        "</think>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<end_of_turn>",
    ];

    /// The conversation as text, markers by their names; each piece that is encoded stands between brackets.
    fn rendered(format: ChatFormat) -> String {
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        let markers = MARKERS.iter().chain(&["<bos>"]).map(|marker| AddedToken::from(*marker, true));
        tokenizer.add_special_tokens(markers).expect("markers");
        let pieces = std::cell::RefCell::new(Vec::new());
        let chat = format.over(&tokenizer).expect("its markers");
        let messages = [
            (Role::System, "Be short."),
            (Role::User, "{role}?"),
            (Role::Assistant, "A."),
            (Role::User, "b"),
        ]
        .map(|(role, text)| Message { role, text });
        // A piece is told by a number beyond the ids.
        let tokens = chat.render(&messages, |text| {
            pieces.borrow_mut().push(text.to_owned());
            Ok(vec![1000 + pieces.borrow().len() as u32 - 1])
        });
        let text = |id: u32| match id.checked_sub(1000) {
            Some(piece) => format!("[{}]", pieces.borrow()[piece as usize]),
            None => tokenizer.id_to_token(id).expect("a marker"),
        };
        tokens.expect("a conversation").into_iter().map(text).collect()
    }

    #[test]
    fn conversations_are_laid_out_as_the_models_know_them() {
        let chat_ml = "<|im_start|>[system\nBe short.]<|im_end|>[\n]<|im_start|>[user\n{role}?]<|im_end|>[\n]\
            <|im_start|>[assistant\nA.]<|im_end|>[\n]<|im_start|>[user\nb]<|im_end|>[\n]<|im_start|>[assistant\n]";
        assert_eq!(rendered(ChatFormat::ChatMl), chat_ml);
        assert_eq!(rendered(ChatFormat::Qwen3), format!("{chat_ml}<think>[\n\n]</think>[\n\n]"));
        let header = |role: &str| format!("<|start_header_id|>[{role}]<|end_header_id|>");
        assert_eq!(
            rendered(ChatFormat::Llama3),
            format!(
                "<|begin_of_text|>{}[\n\nBe short.]<|eot_id|>{}[\n\n{{role}}?]<|eot_id|>{}[\n\nA.]<|eot_id|>{}[\n\nb]\
                 <|eot_id|>{}[\n\n]",
                header("system"),
                header("user"),
                header("assistant"),
                header("user"),
                header("assistant")
            )
        );
        assert_eq!(
            rendered(ChatFormat::Gemma),
            "<bos><start_of_turn>[user\nBe short.\n\n{role}?]<end_of_turn>[\n]<start_of_turn>[model\nA.]<end_of_turn>[\n]\
             <start_of_turn>[user\nb]<end_of_turn>[\n]<start_of_turn>[model\n]"
        );
    }

    #[test]
    fn a_template_tells_its_format() {
        for (template, format) in [
            ("{{'<|im_start|>'}}…<|im_end|>", Some(ChatFormat::ChatMl)),
            ("<|im_start|>…<|im_end|>{% if enable_thinking %}", Some(ChatFormat::Qwen3)),
            ("<|start_header_id|>…<|end_header_id|>…<|eot_id|>", Some(ChatFormat::Llama3)),
            ("<start_of_turn>…<end_of_turn>", Some(ChatFormat::Gemma)),
            ("[INST] … [/INST]", None),
        ] {
            assert_eq!(ChatFormat::detect(template), format, "{template}");
        }
    }
}
