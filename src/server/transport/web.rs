//! Optional gRPC-Web: calls from scripts in a browser, over HTTP/1.1 or HTTP/2.
//!
//! The outermost layer translates a gRPC-Web call to gRPC and its answer back, so everything behind it treats both alike.
//! This layer answers the browser's CORS preflight; `gate` also refuses calls from other origins, so access does not
//! depend on the browser alone.

use std::{str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::ORIGIN};
use tonic_web::GrpcWebLayer;
use tower::layer::util::Stack;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::server::status::Refusal;

/// The origin that stands for all origins.
const ANY: &str = "*";
/// Maximum time for which a browser may cache the answer to a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(3600);
/// The headers of a response without a body that scripts may read.
const STATUS_HEADERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// The origin of a web page, such as `https://news.example:8443`, or `*` for any origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The error returned for a text that is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected https://HOST or https://HOST:PORT in lower case, as a browser sends it, or * for any origin"
)]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let uri = Uri::from_str(text).map_err(|_| OriginError)?;
        let normalized = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) => {
                format!("{scheme}://{authority}").to_lowercase()
            }
            _ => ANY.to_owned(),
        };
        // Anything else, such as a trailing slash, would never equal what a browser sends.
        let value = HeaderValue::from_str(text).ok().filter(|_| normalized == text);
        value.map(Self).ok_or(OriginError)
    }
}

/// The origins that may call.
#[derive(Clone)]
pub(in crate::server) struct Web {
    /// `None` allows any origin.
    origins: Option<Vec<HeaderValue>>,
}

impl Web {
    /// Returns `None` if no origin may call, so gRPC-Web is off.
    pub(in crate::server) fn new(origins: &[Origin]) -> Option<Self> {
        let is_any = origins.iter().any(|origin| origin.0 == ANY);
        let listed = || origins.iter().map(|origin| origin.0.clone()).collect();
        (!origins.is_empty()).then(|| Self { origins: (!is_any).then(listed) })
    }

    /// Refuses a call from an origin that may not call. Calls from outside a browser carry no origin and pass.
    pub(in crate::server) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match (headers.get(ORIGIN), &self.origins) {
            (Some(origin), Some(listed)) if !listed.contains(origin) => {
                Err(Refusal::OriginNotAllowed(String::from_utf8_lossy(origin.as_bytes()).into_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the layers that answer preflights and translate gRPC-Web.
    pub(in crate::server) fn layer(&self) -> Stack<GrpcWebLayer, CorsLayer> {
        let origins = match &self.origins {
            None => AllowOrigin::any(),
            Some(listed) => AllowOrigin::list(listed.iter().cloned()),
        };
        let cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(STATUS_HEADERS.map(HeaderName::from_static))
            .max_age(PREFLIGHT_MAX_AGE);
        Stack::new(GrpcWebLayer::new(), cors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_origins_in_the_form_that_browsers_send() {
        for good in ["https://news.example", "http://127.0.0.1:8080", "http://[::1]:80", "*"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "news.example",
            "https://news.example/",
            "https://News.example",
            "ftp://x",
            "https://x/a",
            "/",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
