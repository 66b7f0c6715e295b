//! The messages of a StreamDigest call.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt, stream};
use tonic::{Code, Status};

use crate::{
    pb,
    server::{
        convert,
        status::from_rpc_status,
        work::{DigestRun, millis_since},
    },
};

/// Returns the structure, then the sections as they finish, then the statistics. If the deadline passed, its status
/// replaces the statistics.
pub(super) fn events(run: DigestRun) -> impl Stream<Item = Result<pb::StreamDigestResponse, Status>> + Send {
    use pb::stream_digest_response::Event;
    let DigestRun { request_id, document, sections, arrived } = run;
    let structure = Event::Document(convert::document_message(&document));
    let totals = Arc::new(Mutex::new((pb::DigestStatistics::default(), None::<Status>)));
    let sections = {
        let totals = totals.clone();
        sections.map(move |section| {
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            let (statistics, deadline_status) = &mut *totals;
            convert::add_section(statistics, &section);
            if deadline_status.is_none() {
                let error = section.error.as_ref();
                let overdue = error.filter(|error| error.code == Code::DeadlineExceeded as i32);
                *deadline_status = overdue.map(from_rpc_status);
            }
            Ok(Event::Section(section))
        })
    };
    let end = stream::once(async move {
        let (mut statistics, deadline_status) = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        statistics.total_time_ms = millis_since(arrived);
        deadline_status.map_or(Ok(Event::Statistics(statistics)), Err)
    });
    stream::once(async { Ok(structure) }).chain(sections).chain(end).map(move |event| {
        event.map(|event| pb::StreamDigestResponse { request_id: request_id.clone(), event: Some(event) })
    })
}
