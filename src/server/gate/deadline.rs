//! Deadlines: parses the `grpc-timeout` header and stops work when the time is up.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::server::status::Refusal;

/// Maximum time reserved for the answer to travel. The server answers a tenth of the timeout early, but never more than
/// this.
const MARGIN: Duration = Duration::from_millis(100);

/// Returns the time by which the call must be answered, or `None` if the caller sets no timeout.
pub(in crate::server) fn from_headers(headers: &HeaderMap) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
        Refusal::field("grpc-timeout", "must be at most eight digits followed by one of H, M, S, m, u, n")
    })?;
    // A deadline beyond the range of the clock counts as none.
    Ok(Instant::now().checked_add(timeout.saturating_sub(MARGIN.min(timeout / 10))))
}

/// Returns the output of `work`, or `None` if the deadline passes first.
pub(in crate::server) async fn before<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

/// Returns the earlier of a stream's deadline and that of one item, whose timeout starts now. 0 means no timeout.
pub(in crate::server) fn with_timeout(
    stream: Option<Instant>,
    timeout_ms: i64,
) -> Result<Option<Instant>, Refusal> {
    let own = match u64::try_from(timeout_ms) {
        Ok(0) => None,
        Ok(timeout_ms) => Instant::now().checked_add(Duration::from_millis(timeout_ms)),
        Err(_) => return Err(Refusal::field("timeout_ms", "must not be negative")),
    };
    Ok(stream.into_iter().chain(own).min())
}

/// Parses at most eight digits and a unit, as the specification of gRPC over HTTP/2 requires.
fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_can_only_shorten_the_deadline_of_its_stream() {
        let stream = Instant::now() + Duration::from_secs(60);
        assert_eq!(with_timeout(Some(stream), 0), Ok(Some(stream)));
        assert_eq!(with_timeout(Some(stream), 600_000), Ok(Some(stream)));
        assert!(with_timeout(Some(stream), 10).unwrap() < Some(stream));
        assert!(with_timeout(None, 10).unwrap().is_some() && with_timeout(None, 0) == Ok(None));
        assert!(with_timeout(None, -1).is_err());
    }

    #[test]
    fn parses_the_header_as_the_specification_requires() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for invalid in ["", "S", "123456789S", "-1S", "1x", "1秒"] {
            assert_eq!(parse(invalid), None, "{invalid}");
        }
    }
}
