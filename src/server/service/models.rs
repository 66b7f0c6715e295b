//! The list of models, one page at a time.

use crate::{
    pb,
    pipeline::Pipeline,
    server::{convert, status::Refusal},
};

const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 100;

/// Returns the requested page of the known models, with those that `pipeline` runs first.
pub(super) fn list(
    mut known: Vec<pb::Model>,
    pipeline: Option<&Pipeline>,
    request: &pb::ListModelsRequest,
) -> Result<pb::ListModelsResponse, Refusal> {
    let running = pipeline.map(Pipeline::models).unwrap_or_default();
    for model in &mut known {
        model.running = running.iter().any(|running| running.id == model.id);
    }
    known.sort_by_key(|model| !model.running);
    let mut response = page(known, request)?;
    response.running = pipeline.map(convert::running_message);
    Ok(response)
}

/// Cuts out one page. The page token is the index of its first model.
fn page(models: Vec<pb::Model>, request: &pb::ListModelsRequest) -> Result<pb::ListModelsResponse, Refusal> {
    let size = match usize::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) => size.min(MAX_PAGE_SIZE),
        Err(_) => return Err(Refusal::field("page_size", "must not be negative")),
    };
    let first: usize = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Refusal::field("page_token", "was not issued by this server"))?,
    };
    let remaining = models.len().saturating_sub(first.saturating_add(size));
    Ok(pb::ListModelsResponse {
        models: models.into_iter().skip(first).take(size).collect(),
        next_page_token: if remaining > 0 { (first + size).to_string() } else { String::new() },
        running: None,
    })
}
