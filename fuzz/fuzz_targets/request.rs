//! Fuzzes requests: decoding and validation must not panic, and an accepted request must be within all limits.
//!
//! The first byte selects the message type, the others are the message. The conversion is compiled from its source
//! without the rest of the crate, so the engine need not be built; the types that it uses from tonic, the engine and the
//! pipeline are replaced by stubs below.

#![no_main]

use libfuzzer_sys::fuzz_target;

mod api {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}
use api::yizhai::v1 as pb;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../src/document/mod.rs"]
mod document;
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/glossary/mod.rs"]
mod glossary;

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/task.rs"]
mod task;

/// Stubs for the types of the engine that a job contains.
#[allow(dead_code)]
mod engine {
    #[derive(Debug, Clone, Copy)]
    pub enum Sampling {
        Greedy,
        Random { temperature: f64, top_p: f64, top_k: Option<usize>, seed: u64 },
    }

    #[derive(Debug, Clone, Copy)]
    pub enum Priority {
        Interactive,
        Batch,
    }
}

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/pipeline"]
mod pipeline {
    mod job;

    pub use job::{DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job};

    use crate::task::{Task, Tasks};

    pub struct Model {
        pub id: String,
    }

    /// A stub of a pipeline that runs no models and supports every task.
    #[derive(Clone)]
    pub struct Pipeline;

    impl Pipeline {
        pub fn restricted_to(&self, _: &str) -> Option<Self> {
            None
        }

        pub fn models(&self) -> Vec<&Model> {
            Vec::new()
        }

        pub fn unsupported_task(&self, _: Tasks) -> Option<(Task, &Model)> {
            None
        }
    }
}

/// The conversion, in a module of the name that its imports expect.
#[allow(dead_code, unreachable_pub)]
#[path = "../../src/server"]
mod server {
    use std::{collections::BTreeMap, sync::Arc};

    use prost::Message;

    use self::status::Refusal;
    use crate::{
        document::Document,
        engine::{Priority, Sampling},
        glossary::Glossary,
        pb,
    };

    #[path = "gate/deadline.rs"]
    mod deadline;
    #[path = "convert/request.rs"]
    mod request;

    pub type Glossaries = BTreeMap<String, Arc<Glossary>>;

    pub struct RequestLimits {
        pub max_page_bytes: usize,
        pub max_sections: usize,
        pub max_terms: usize,
    }

    pub mod status {
        use crate::document::DocumentError;

        /// The refusals of the server that the conversion can return.
        #[derive(Debug, PartialEq, Eq)]
        pub enum Refusal {
            InvalidField { field: String, reason: String },
            Document(DocumentError),
            UnknownModel { requested: String, running: String },
            UnknownGlossary(String),
        }

        impl Refusal {
            pub fn field(field: &str, reason: impl Into<String>) -> Self {
                Self::InvalidField { field: field.to_owned(), reason: reason.into() }
            }
        }

        impl From<DocumentError> for Refusal {
            fn from(error: DocumentError) -> Self {
                Self::Document(error)
            }
        }
    }

    /// Low limits, so that short inputs reach them.
    const LIMITS: RequestLimits = RequestLimits { max_page_bytes: 1000, max_sections: 8, max_terms: 4 };

    pub fn process(choice: u8, bytes: &[u8]) {
        match choice % 4 {
            0 => {
                let Some(pb::DigestRequest { input, options, request_id }) = decoded(bytes) else { return };
                call(&request_id, input, options);
            }
            1 => {
                let Some(pb::StreamDigestRequest { input, options, request_id }) = decoded(bytes) else {
                    return;
                };
                call(&request_id, input, options);
            }
            2 => {
                let Some(pb::DigestManyRequest { item_id, input, options, timeout_ms }) = decoded(bytes)
                else {
                    return;
                };
                if request::check_id("item_id", &item_id).is_ok() {
                    assert!(is_id(&item_id));
                }
                assert_eq!(deadline::with_timeout(None, timeout_ms).is_ok(), timeout_ms >= 0);
                let _ = job(input, options, Priority::Batch);
            }
            _ => {
                let Some(pb::SegmentRequest { input }) = decoded(bytes) else { return };
                let _ = document(input);
            }
        }
    }

    /// Decodes a message and checks that it survives a round trip.
    fn decoded<M: Message + Default>(bytes: &[u8]) -> Option<M> {
        let message = M::decode(bytes).ok()?;
        let encoded = message.encode_to_vec();
        let again = M::decode(encoded.as_slice()).expect("an encoded message decodes");
        assert_eq!(again.encode_to_vec(), encoded);
        Some(message)
    }

    fn call(id: &str, input: Option<pb::Input>, options: Option<pb::DigestOptions>) {
        if let Ok(id) = request::request_id(id, "call") {
            assert!(is_id(&id));
        }
        let _ = job(input, options, Priority::Interactive);
    }

    /// Returns `true` if an id is safe to log.
    fn is_id(id: &str) -> bool {
        (1..=128).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    }

    fn document(input: Option<pb::Input>) -> Result<Document, Refusal> {
        let bytes = match input.as_ref().and_then(|input| input.source.as_ref()) {
            Some(pb::input::Source::PageText(text)) => text.len(),
            Some(pb::input::Source::PageBytes(bytes)) => bytes.len(),
            Some(pb::input::Source::Article(article)) => article.encoded_len(),
            None => 0,
        };
        let document = request::document(input, &LIMITS)?;
        assert!((1..=LIMITS.max_page_bytes).contains(&bytes));
        assert!(!document.articles.is_empty());
        assert!(document.articles.iter().all(|article| !article.sections.is_empty()));
        let sections: usize = document.articles.iter().map(|article| article.sections.len()).sum();
        assert!(sections <= LIMITS.max_sections);
        Ok(document)
    }

    fn job(
        input: Option<pb::Input>,
        options: Option<pb::DigestOptions>,
        priority: Priority,
    ) -> Result<(), Refusal> {
        let document = document(input)?;
        let terms = options.as_ref().map_or(0, |options| options.terms.len());
        let job = request::job(document, options, &BTreeMap::new(), &LIMITS, priority, None)?;
        assert!(terms <= LIMITS.max_terms);
        assert!(job.tasks.summary || job.tasks.translation);
        assert!(request::SUMMARY_CHARS.contains(&job.summary_max_chars));
        assert!(request::MAX_ATTEMPTS.contains(&job.max_attempts));
        if let Sampling::Random { temperature, top_p, top_k, .. } = job.sampling {
            assert!(temperature > 0.0 && temperature <= 2.0 && top_p > 0.0 && top_p <= 1.0);
            assert!(top_k != Some(0));
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some((choice, bytes)) = data.split_first() {
        server::process(*choice, bytes);
    }
});
