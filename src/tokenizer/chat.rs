//! Chat formats: the layout of a conversation in tokens.
//!
//! A format is data: the start of a conversation, the layout of a message, and the start of the model's reply. Markers
//! are inserted as token ids, so no text can forge one; the text between two markers is encoded as a unit.

use super::TokenizerError;

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatRole {
    /// The instructions to the model.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct ChatMessage<'a> {
    /// The author.
    pub role: ChatRole,
    /// The contents.
    pub text: &'a str,
}

/// A supported layout of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFormat {
    /// `<|im_start|>role\ntext<|im_end|>\n`: Qwen2.5, SmolLM2 and others.
    ChatMl,
    /// ChatML with an empty `<think>` block before the reply, which switches reasoning off: Qwen3.
    Qwen3,
    /// `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>`: Llama 3.
    Llama3,
    /// `<start_of_turn>role\ntext<end_of_turn>\n`, with the instructions in the first user message: Gemma.
    Gemma,
}

/// An element of a layout.
#[derive(Debug, Clone, Copy)]
enum LayoutItem {
    /// A special token.
    Marker(&'static str),
    /// Text, in which `{role}` and `{text}` are replaced by those of the message.
    Text(&'static str),
}
use LayoutItem::{Marker, Text};

/// The layout of a conversation.
struct ChatLayout {
    /// The start of the conversation.
    begin: &'static [LayoutItem],
    /// The layout of each message.
    message: &'static [LayoutItem],
    /// The start of the model's reply.
    reply: &'static [LayoutItem],
    /// The marker that ends a message.
    end: &'static str,
    /// The name of the model's role.
    assistant: &'static str,
    /// `true` if the instructions are a separate message; otherwise they precede the text of the next one.
    has_system_message: bool,
}

const CHAT_ML: ChatLayout = ChatLayout {
    begin: &[],
    message: &[Marker("<|im_start|>"), Text("{role}\n{text}"), Marker("<|im_end|>"), Text("\n")],
    reply: &[Marker("<|im_start|>"), Text("assistant\n")],
    end: "<|im_end|>",
    assistant: "assistant",
    has_system_message: true,
};

const QWEN3: ChatLayout = ChatLayout {
    reply: &[
        Marker("<|im_start|>"),
        Text("assistant\n"),
        Marker("<think>"),
        Text("\n\n"),
        Marker("</think>"),
        Text("\n\n"),
    ],
    ..CHAT_ML
};

const LLAMA3: ChatLayout = ChatLayout {
    begin: &[Marker("<|begin_of_text|>")],
    message: &[
        Marker("<|start_header_id|>"),
        Text("{role}"),
        Marker("<|end_header_id|>"),
        Text("\n\n{text}"),
        Marker("<|eot_id|>"),
    ],
    reply: &[Marker("<|start_header_id|>"), Text("assistant"), Marker("<|end_header_id|>"), Text("\n\n")],
    end: "<|eot_id|>",
    assistant: "assistant",
    has_system_message: true,
};

const GEMMA: ChatLayout = ChatLayout {
    begin: &[Marker("<bos>")],
    message: &[Marker("<start_of_turn>"), Text("{role}\n{text}"), Marker("<end_of_turn>"), Text("\n")],
    reply: &[Marker("<start_of_turn>"), Text("model\n")],
    end: "<end_of_turn>",
    assistant: "model",
    has_system_message: false,
};

impl ChatFormat {
    /// Detects the format that a chat template (Jinja) produces.
    pub fn detect(template: &str) -> Option<Self> {
        let has = |markers: [&str; 2]| markers.iter().all(|marker| template.contains(marker));
        if has(["<|im_start|>", "<|im_end|>"]) {
            // Only models with optional reasoning have this switch.
            return Some(if template.contains("enable_thinking") { Self::Qwen3 } else { Self::ChatMl });
        }
        if has(["<|start_header_id|>", "<|eot_id|>"]) {
            return Some(Self::Llama3);
        }
        has(["<start_of_turn>", "<end_of_turn>"]).then_some(Self::Gemma)
    }

    fn layout(self) -> &'static ChatLayout {
        match self {
            Self::ChatMl => &CHAT_ML,
            Self::Qwen3 => &QWEN3,
            Self::Llama3 => &LLAMA3,
            Self::Gemma => &GEMMA,
        }
    }

    /// Resolves the markers of the format to the ids of a tokenizer.
    pub(super) fn encoder(self, tokenizer: &tokenizers::Tokenizer) -> Result<ChatEncoder, TokenizerError> {
        let layout = self.layout();
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| TokenizerError::MissingToken(token.to_owned()))
        };
        let resolve = |items: &[LayoutItem]| {
            let resolve_item = |item: &LayoutItem| {
                Ok(match *item {
                    Marker(token) => EncodedItem::Token(id(token)?),
                    Text(text) => EncodedItem::Text(text),
                })
            };
            items.iter().map(resolve_item).collect::<Result<Vec<_>, TokenizerError>>()
        };
        Ok(ChatEncoder {
            layout,
            begin: resolve(layout.begin)?,
            message: resolve(layout.message)?,
            reply: resolve(layout.reply)?,
            end: id(layout.end)?,
        })
    }
}

/// A layout whose markers are resolved to token ids.
pub(super) struct ChatEncoder {
    layout: &'static ChatLayout,
    begin: Vec<EncodedItem>,
    message: Vec<EncodedItem>,
    reply: Vec<EncodedItem>,
    /// The token that ends a message.
    pub(super) end: u32,
}

enum EncodedItem {
    Token(u32),
    Text(&'static str),
}

impl ChatEncoder {
    /// Encodes the messages and the start of the model's reply.
    pub(super) fn encode(
        &self,
        messages: &[ChatMessage<'_>],
        encode_text: impl Fn(&str) -> Result<Vec<u32>, TokenizerError>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::new();
        let mut append = |items: &[EncodedItem], role: &str, text: &str| {
            for item in items {
                match item {
                    EncodedItem::Token(id) => tokens.push(*id),
                    // The text is inserted last, so that braces in it stay as they are.
                    EncodedItem::Text(template) => {
                        tokens.extend(encode_text(
                            &template.replace("{role}", role).replacen("{text}", text, 1),
                        )?);
                    }
                }
            }
            Ok::<_, TokenizerError>(())
        };
        append(&self.begin, "", "")?;
        let mut instructions = String::new();
        for ChatMessage { role, text } in messages {
            let role = match role {
                ChatRole::System if !self.layout.has_system_message => {
                    instructions = format!("{text}\n\n");
                    continue;
                }
                ChatRole::System => "system",
                ChatRole::User => "user",
                ChatRole::Assistant => self.layout.assistant,
            };
            append(&self.message, role, &(std::mem::take(&mut instructions) + text))?;
        }
        append(&self.reply, "", "")?;
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

    /// Renders a conversation with markers by name and every encoded text in brackets.
    fn rendered(format: ChatFormat) -> String {
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        let markers = MARKERS.iter().chain(&["<bos>"]).map(|marker| AddedToken::from(*marker, true));
        tokenizer.add_special_tokens(markers).expect("markers are valid tokens");
        let texts = std::cell::RefCell::new(Vec::new());
        let encoder = format.encoder(&tokenizer).expect("the vocabulary has all markers");
        let messages = [
            (ChatRole::System, "Be short."),
            (ChatRole::User, "{role}?"),
            (ChatRole::Assistant, "A."),
            (ChatRole::User, "b"),
        ]
        .map(|(role, text)| ChatMessage { role, text });
        // A text is encoded as its index plus 1000, beyond the ids of the markers.
        let tokens = encoder.encode(&messages, |text| {
            texts.borrow_mut().push(text.to_owned());
            Ok(vec![1000 + texts.borrow().len() as u32 - 1])
        });
        let name = |id: u32| match id.checked_sub(1000) {
            Some(index) => format!("[{}]", texts.borrow()[index as usize]),
            None => tokenizer.id_to_token(id).expect("a marker"),
        };
        tokens.expect("the conversation is valid").into_iter().map(name).collect()
    }

    #[test]
    fn lays_out_conversations_in_the_format_of_each_model() {
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
    fn detects_the_format_of_a_chat_template() {
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
