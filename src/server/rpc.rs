//! The table of RPCs: the only place that says how each RPC is admitted, authorized, counted and logged.
//!
//! Read by `gate`, `auth`, `metrics` and `observe`. The API's RPCs are generated from the proto, so one that has no row
//! in [`Rpc::policy`] does not compile. The gate answers UNIMPLEMENTED to a path that is not in the table.

include!(concat!(env!("OUT_DIR"), "/api_rpc.rs"));

/// An RPC that this server implements: one of the API, of `grpc.health.v1` or of server reflection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Rpc {
    Api(ApiRpc),
    HealthCheck,
    HealthWatch,
    ReflectionV1,
    ReflectionV1Alpha,
}

/// The treatment of an RPC by the layers in front of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct RpcPolicy {
    /// The kind of RPC, which decides the limits on the body and the log level of a finished call.
    pub(in crate::server) class: RpcClass,
    /// A call needs a permit from admission, so it may be queued or refused.
    pub(in crate::server) needs_permit: bool,
    /// The token that a call needs.
    pub(in crate::server) scope: Scope,
}

/// The kind of an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum RpcClass {
    /// A request of one message, which must arrive within the receive timeout.
    Unary,
    /// A stream of requests that may stay open as long as each message arrives within the receive timeout.
    ItemStream,
    /// A liveness or readiness check, which is answered under any load.
    Health,
    /// A description of the API for tools.
    Reflection,
}

/// The token that a call must carry if the server requires tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Scope {
    /// A token whose `rpcs` includes the RPC, or one without `rpcs`.
    Granted(ApiRpc),
    /// Any valid token.
    AnyToken,
    /// None if health is open, otherwise any valid token.
    OpenHealth,
}

impl Rpc {
    /// The RPCs that are not part of the API. A test compares them with the descriptors of their services.
    const STANDARD: [Self; 4] =
        [Self::HealthCheck, Self::HealthWatch, Self::ReflectionV1, Self::ReflectionV1Alpha];

    /// Returns the policy for calls of this RPC.
    #[rustfmt::skip]
    pub(in crate::server) const fn policy(self) -> RpcPolicy {
        use self::RpcClass::{Health, ItemStream, Reflection, Unary};
        use self::Scope::{AnyToken, Granted, OpenHealth};
        let (class, needs_permit, scope) = match self {
            //                                       class       permit  scope
            Self::Api(rpc @ ApiRpc::Digest)       => (Unary,      true,  Granted(rpc)),
            Self::Api(rpc @ ApiRpc::StreamDigest) => (Unary,      true,  Granted(rpc)),
            Self::Api(rpc @ ApiRpc::DigestMany)   => (ItemStream, true,  Granted(rpc)),
            Self::Api(rpc @ ApiRpc::Segment)      => (Unary,      true,  Granted(rpc)),
            Self::Api(rpc @ ApiRpc::ListModels)   => (Unary,      false, Granted(rpc)),
            Self::HealthCheck                     => (Health,     false, OpenHealth),
            Self::HealthWatch                     => (Health,     false, OpenHealth),
            Self::ReflectionV1                    => (Reflection, false, AnyToken),
            Self::ReflectionV1Alpha               => (Reflection, false, AnyToken),
        };
        RpcPolicy { class, needs_permit, scope }
    }

    /// Returns the name used in metrics and spans.
    pub(in crate::server) const fn name(self) -> &'static str {
        match self {
            Self::Api(rpc) => rpc.name(),
            Self::HealthCheck => "Check",
            Self::HealthWatch => "Watch",
            Self::ReflectionV1 | Self::ReflectionV1Alpha => "ServerReflectionInfo",
        }
    }

    /// Returns the path of the RPC's HTTP requests.
    const fn path(self) -> &'static str {
        match self {
            Self::Api(rpc) => rpc.path(),
            Self::HealthCheck => "/grpc.health.v1.Health/Check",
            Self::HealthWatch => "/grpc.health.v1.Health/Watch",
            Self::ReflectionV1 => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Self::ReflectionV1Alpha => "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        }
    }

    /// Returns every RPC.
    pub(in crate::server) fn all() -> impl Iterator<Item = Self> {
        ApiRpc::ALL.into_iter().map(Self::Api).chain(Self::STANDARD)
    }

    /// Returns the RPC with this HTTP path.
    pub(in crate::server) fn from_path(path: &str) -> Option<Self> {
        Self::all().find(|rpc| rpc.path() == path)
    }
}

impl ApiRpc {
    /// Returns the RPC with this name, as token files spell it.
    pub(in crate::server) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rpc| rpc.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_the_served_descriptors_is_in_the_table() {
        let descriptors = [
            crate::pb::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut paths = Vec::new();
        for bytes in descriptors {
            for file in FileDescriptorSet::decode(bytes).unwrap().file {
                for service in &file.service {
                    let path = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
                    paths.extend(service.method.iter().map(|method| path(method.name())));
                }
            }
        }
        assert_eq!(paths.len(), Rpc::all().count());
        for path in paths {
            assert_eq!(Rpc::from_path(&path).map(Rpc::path), Some(path.as_str()));
        }
    }

    #[test]
    fn an_unknown_path_is_no_rpc() {
        for path in ["", "/", "/yizhai.v1.DigestService/", "/yizhai.v1.DigestService/digest", "/x/Digest"] {
            assert_eq!(Rpc::from_path(path), None, "{path}");
        }
    }
}
