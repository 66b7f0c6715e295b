//! A DigestMany call: several items at a time, one response for each.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{Stream, StreamExt, stream};
use prost::Message as _;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::ApiService;
use crate::{
    engine::Priority,
    pb::{self, digest_many_response::Result as ItemResult},
    server::{
        convert,
        gate::{CallContext, RequestLimits, deadline, refused_by_transport},
        status::{Refusal, to_rpc_status},
    },
};

/// Returns the responses of a call in the order in which the items finish. If the server stopped reading items, the
/// reason is the last element.
pub(super) fn responses(
    service: ApiService,
    requests: Streaming<pb::DigestManyRequest>,
    call: CallContext,
) -> impl Stream<Item = Result<pb::DigestManyResponse, Status>> + Send {
    let limits = service.inner.config.limits;
    let (items, end) = items(requests, limits, &call);
    let used_ids = Arc::new(Mutex::new(HashSet::new()));
    items
        .map(move |item| {
            let (service, used_ids, call) = (service.clone(), used_ids.clone(), call.clone());
            let bytes = item.encoded_len();
            let response = async move {
                let response = digest_item(&service, item, &call, &used_ids).await;
                call.reservation.release(bytes);
                Ok(response)
            };
            response.in_current_span()
        })
        .buffer_unordered(limits.max_items_in_flight)
        .chain(end.map(Err))
}

/// Digests one item. Its failure does not affect the others.
async fn digest_item(
    service: &ApiService,
    item: pb::DigestManyRequest,
    call: &CallContext,
    used_ids: &Mutex<HashSet<String>>,
) -> pb::DigestManyResponse {
    let pb::DigestManyRequest { item_id, input, options, timeout_ms } = item;
    let digest = async {
        let deadline = deadline::with_timeout(call.deadline, timeout_ms).map_err(|r| r.status(&item_id))?;
        let call = &CallContext { deadline, ..call.clone() };
        convert::check_id("item_id", &item_id).map_err(|r| r.status(&call.id))?;
        let is_new = used_ids.lock().unwrap_or_else(PoisonError::into_inner).insert(item_id.clone());
        if !is_new {
            let reason = "was already used in this stream";
            return Err(Refusal::field("item_id", reason).status(&item_id));
        }
        service.start(call, &item_id, input, options, Priority::Batch).await?.collect().await
    };
    let result = match digest.await {
        Ok(digest) => ItemResult::Digest(digest),
        Err(status) => ItemResult::Error(to_rpc_status(&status)),
    };
    pb::DigestManyResponse { item_id, result: Some(result) }
}

/// Returns the items as they arrive, and the reason why the server stopped reading them: the deadline passed, a message
/// was malformed, or there were too many. The second stream is empty if the caller ended the stream itself. It must be
/// polled after all items, which are answered first.
fn items(
    requests: Streaming<pb::DigestManyRequest>,
    limits: RequestLimits,
    call: &CallContext,
) -> (impl Stream<Item = pb::DigestManyRequest> + Send + use<>, impl Stream<Item = Status> + Send + use<>) {
    let (id, deadline) = (call.id.clone(), call.deadline);
    let stopped_by = Arc::new(Mutex::new(None::<Status>));
    let overdue = async move {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    let stop = {
        let (id, stopped_by) = (id.clone(), stopped_by.clone());
        move |status: Status| {
            let refusal = refused_by_transport(&status, limits.message_bytes());
            let status = refusal.map_or(status, |refusal| refusal.status(&id));
            stopped_by.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(status);
        }
    };
    let too_many = Refusal::TooManyItems { limit: limits.max_items }.status(&id);
    let items = requests.enumerate().map(move |(index, item)| match item {
        Ok(_) if index >= limits.max_items => Err(too_many.clone()),
        item => item,
    });
    let items = items.map(move |item| item.map_err(&stop).ok());
    let items = items.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready);
    let end = stream::once(async move {
        let stopped_by = stopped_by.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_overdue = deadline.is_some_and(|deadline| deadline <= Instant::now());
        stopped_by.or_else(|| is_overdue.then(|| Refusal::Deadline.status(&id)))
    });
    (items.take_until(overdue), end.filter_map(std::future::ready))
}
