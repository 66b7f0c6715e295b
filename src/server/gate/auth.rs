//! Who calls: by bearer token, by certificate, or by address; and what a token may call.
//!
//! A token file holds hashes, so that who reads it cannot call. Tokens are random, which makes one SHA-256 enough;
//! they are compared in constant time, each with all entries.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, header::AUTHORIZATION};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::admission::Caller;
use crate::server::{
    status::Refusal,
    transport::{Peer, reload::Reload},
};

/// The RPCs that a token can be bound to.
const RPCS: [&str; 5] = ["Digest", "StreamDigest", "DigestMany", "Segment", "ListModels"];

/// Who may call.
#[derive(Clone, Default)]
pub struct Access {
    /// The tokens that are accepted; `None` lets everybody call.
    pub tokens: Option<Tokens>,
    /// Whether health is answered without a token.
    pub health_open: bool,
}

impl Access {
    /// No tokens: everybody may call.
    pub fn open() -> Self {
        Self { tokens: None, health_open: true }
    }

    /// The caller, when it may call `rpc` of the API (`None`: something else).
    pub(in crate::server) fn client(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        rpc: Option<&str>,
    ) -> Result<Caller, Refusal> {
        if let Some(tokens) = &self.tokens {
            return tokens.client(headers, rpc);
        }
        let name: Arc<str> = peer.map_or_else(|| "in-process".into(), |peer| peer.name.clone());
        Ok(Caller { name, max_requests: None, requests_per_minute: None })
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read the tokens in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not in the form of a token file.
    #[error("{path} holds no tokens: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
}

/// The tokens of a file; cheap to clone, replaced in the background when the file changes.
#[derive(Clone)]
pub struct Tokens {
    path: PathBuf,
    current: Arc<ArcSwap<Vec<AccessToken>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    sha256: String,
    max_requests: Option<usize>,
    requests_per_minute: Option<NonZeroU32>,
    rpcs: Option<Vec<String>>,
}

struct AccessToken {
    sha256: [u8; 32],
    client: Caller,
    rpcs: Option<Vec<String>>,
}

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// When it cannot be read, or holds no tokens, an unknown key, or what is no hash.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let tokens = read(path)?;
        Ok(Self { path: path.to_owned(), current: Arc::new(ArcSwap::from_pointee(tokens)) })
    }

    fn client(&self, headers: &HeaderMap, rpc: Option<&str>) -> Result<Caller, Refusal> {
        let header = headers.get(AUTHORIZATION).ok_or(Refusal::NoToken)?;
        let presented = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Refusal::NoToken)?;
        let tokens = self.current.load();
        let token = find(&tokens, presented).ok_or(Refusal::WrongToken)?;
        match (rpc, &token.rpcs) {
            (Some(rpc), Some(allowed)) if !allowed.iter().any(|a| a == rpc) => {
                Err(Refusal::NotAllowed { name: token.client.name.to_string(), rpc: rpc.to_owned() })
            }
            _ => Ok(token.client.clone()),
        }
    }
}

impl Reload for Tokens {
    fn what(&self) -> &'static str {
        "tokens"
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn reload(&self) -> Result<(), String> {
        let tokens = read(&self.path).map_err(|error| error.to_string())?;
        self.current.store(Arc::new(tokens));
        Ok(())
    }
}

/// The token that was presented. Takes as long whichever it is.
fn find<'a>(tokens: &'a [AccessToken], presented: &str) -> Option<&'a AccessToken> {
    let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
    let mut found = u64::MAX;
    for (index, token) in (0u64..).zip(tokens) {
        found.conditional_assign(&index, token.sha256.ct_eq(&hash));
    }
    usize::try_from(found).ok().and_then(|index| tokens.get(index))
}

fn read(path: &Path) -> Result<Vec<AccessToken>, TokensError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TokensError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|reason| TokensError::Malformed { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<Vec<AccessToken>, String> {
    // The message alone: what toml quotes of the line may be a secret.
    let file: TokenFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.token.is_empty() {
        return Err("it has no [[token]]".to_owned());
    }
    let mut names = std::collections::HashSet::new();
    file.token
        .into_iter()
        .map(|entry| {
            let TokenEntry { name, sha256, max_requests, requests_per_minute, rpcs } = entry;
            if name.is_empty() || !names.insert(name.clone()) {
                return Err(format!("the name `{name}` is empty or stands twice"));
            }
            let sha256 = hash_bytes(&sha256)
                .ok_or_else(|| format!("the sha256 of `{name}` is not 64 hexadecimal digits"))?;
            if let Some(unknown) = rpcs.iter().flatten().find(|rpc| !RPCS.contains(&rpc.as_str())) {
                return Err(format!("`{name}` names the rpc `{unknown}`; there are {}", RPCS.join(", ")));
            }
            let client = Caller { name: format!("token:{name}").into(), max_requests, requests_per_minute };
            Ok(AccessToken { sha256, client, rpcs })
        })
        .collect()
}

fn hash_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, secret: &str, rest: &str) -> String {
        let sha256: String = Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).collect();
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{rest}\n")
    }

    #[test]
    fn a_token_is_found_by_what_it_hashes_to() {
        let tokens = parse(&(entry("a", "one", "") + &entry("b", "two", "max_requests = 3"))).unwrap();
        assert_eq!(&*find(&tokens, "one").unwrap().client.name, "token:a");
        assert_eq!(find(&tokens, "two").unwrap().client.max_requests, Some(3));
        for wrong in ["", "three", "One", "one "] {
            assert!(find(&tokens, wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_broken_file_is_refused_without_quoting_it() {
        let cases = [
            (String::new(), "token"),
            ("token = []".to_owned(), "no [[token]]"),
            (entry("a", "x", "quota = 3"), "quota"),
            (entry("a", "x", "") + &entry("a", "y", ""), "stands twice"),
            ("[[token]]\nname = \"a\"\nsha256 = \"my secret\"\n".to_owned(), "64 hexadecimal"),
            (entry("a", "x", "rpcs = [\"Dance\"]"), "Dance"),
        ];
        for (text, named) in cases {
            let error = parse(&text).err().unwrap();
            assert!(error.contains(named) && !error.contains("my secret"), "{error}");
        }
    }
}
