//! Authentication by bearer token, client certificate or address, and authorization of RPCs by token.
//!
//! A token file contains hashes, so reading it does not let anyone call. Tokens are random, so one round of SHA-256 is
//! enough. A presented token is compared with every entry in constant time.

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
    rpc::{ApiRpc, Scope},
    status::Refusal,
    transport::{Peer, reload::Reload},
};

/// The access rules of a server.
#[derive(Clone, Default)]
pub struct Access {
    /// The accepted tokens. `None` lets everyone call.
    pub tokens: Option<Tokens>,
    /// Answer health checks without a token.
    pub health_open: bool,
}

impl Access {
    /// Returns rules that let everyone call.
    pub fn open() -> Self {
        Self { tokens: None, health_open: true }
    }

    /// Identifies the caller and checks that it may make a call of this scope.
    pub(in crate::server) fn authorize(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        scope: Scope,
    ) -> Result<Caller, Refusal> {
        match &self.tokens {
            Some(tokens) if !(scope == Scope::OpenHealth && self.health_open) => {
                tokens.authorize(headers, scope)
            }
            _ => {
                let name = peer.map_or_else(|| "in-process".into(), |peer| peer.name.clone());
                Ok(Caller { name, max_requests: None, requests_per_minute: None })
            }
        }
    }
}

/// The error returned for a token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: {source}")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        source: std::io::Error,
    },
    /// The file is not a valid token file.
    #[error("{path} is not a valid token file: {reason}")]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// The mistake, without secrets.
        reason: String,
    },
}

/// The tokens of a file. Cheap to clone; all clones see a reload.
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

/// A validated [`TokenEntry`].
struct AccessToken {
    sha256: [u8; 32],
    caller: Caller,
    /// The only RPCs of the API that the token may call. `None` allows all.
    rpcs: Option<Vec<ApiRpc>>,
}

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// Fails if the file cannot be read, contains no tokens, or has an entry that is not valid.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let tokens = read(path)?;
        Ok(Self { path: path.to_owned(), current: Arc::new(ArcSwap::from_pointee(tokens)) })
    }

    fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Refusal> {
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
        match (scope, &token.rpcs) {
            (Scope::Granted(rpc), Some(granted)) if !granted.contains(&rpc) => {
                Err(Refusal::RpcNotAllowed { name: token.caller.name.to_string(), rpc: rpc.name() })
            }
            _ => Ok(token.caller.clone()),
        }
    }
}

impl Reload for Tokens {
    fn description(&self) -> &'static str {
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

/// Finds the presented token. The time this takes does not depend on which token matches.
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
    // Only the message: the line that toml quotes may contain a secret.
    let file: TokenFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.token.is_empty() {
        return Err("it has no [[token]] entry".to_owned());
    }
    let mut names = std::collections::HashSet::new();
    file.token
        .into_iter()
        .map(|entry| {
            let TokenEntry { name, sha256, max_requests, requests_per_minute, rpcs } = entry;
            if name.is_empty() || !names.insert(name.clone()) {
                return Err(format!("the name `{name}` is empty or duplicated"));
            }
            let sha256 = hash_bytes(&sha256)
                .ok_or_else(|| format!("the sha256 of `{name}` is not 64 hexadecimal digits"))?;
            let rpcs = rpcs.map(|rpcs| parse_rpcs(&name, &rpcs)).transpose()?;
            let caller = Caller { name: format!("token:{name}").into(), max_requests, requests_per_minute };
            Ok(AccessToken { sha256, caller, rpcs })
        })
        .collect()
}

fn parse_rpcs(token: &str, names: &[String]) -> Result<Vec<ApiRpc>, String> {
    let parse = |name: &String| {
        ApiRpc::from_name(name).ok_or_else(|| {
            let known: Vec<_> = ApiRpc::ALL.into_iter().map(ApiRpc::name).collect();
            format!("`{token}` lists the unknown RPC `{name}`; expected {}", known.join(", "))
        })
    };
    names.iter().map(parse).collect()
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
    fn a_token_is_found_by_its_hash() {
        let tokens = parse(&(entry("a", "one", "") + &entry("b", "two", "max_requests = 3"))).unwrap();
        assert_eq!(&*find(&tokens, "one").unwrap().caller.name, "token:a");
        assert_eq!(find(&tokens, "two").unwrap().caller.max_requests, Some(3));
        for wrong in ["", "three", "One", "one "] {
            assert!(find(&tokens, wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_invalid_file_is_rejected_without_quoting_it() {
        let cases = [
            (String::new(), "token"),
            ("token = []".to_owned(), "no [[token]] entry"),
            (entry("a", "x", "quota = 3"), "quota"),
            (entry("a", "x", "") + &entry("a", "y", ""), "duplicated"),
            ("[[token]]\nname = \"a\"\nsha256 = \"my secret\"\n".to_owned(), "64 hexadecimal"),
            (entry("a", "x", "rpcs = [\"Segment\", \"Dance\"]"), "unknown RPC `Dance`; expected Digest,"),
            (entry("a", "x", "rpcs = [\"Check\"]"), "unknown RPC `Check`"),
        ];
        for (text, named) in cases {
            let error = parse(&text).err().unwrap();
            assert!(error.contains(named) && !error.contains("my secret"), "{error}");
        }
    }
}
