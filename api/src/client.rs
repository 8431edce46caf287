//! How an agent dials a controller: the settings of the channel and the proof of who it is. Opens nothing by itself.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::generated::ferrule::v1alpha1::agents_client::AgentsClient;
use crate::stream::{MAX_FROM_AGENT_BYTES, MAX_FROM_CONTROLLER_BYTES};

/// A dead peer is noticed after this without an answer, on top of [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is tried.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not HOST:PORT.
    #[error("`{address}` is no address of a controller: write HOST:PORT, an IPv6 address in brackets")]
    Address {
        /// What was given.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The certificate authority cannot be used.
    #[error("the controller's CA certificate cannot be used (is it PEM?): {source}")]
    Authority {
        /// Why.
        source: tonic::transport::Error,
    },
    /// The token cannot be put into a header.
    #[error("the node's token has characters that no header can carry: is the right file given?")]
    Token,
}

/// The endpoint of a controller at `HOST:PORT`, trusted when its certificate carries this name (usually
/// [`SERVER_NAME`](crate::stream::SERVER_NAME)) under one of these authorities.
pub fn endpoint(address: &str, authorities_pem: &[u8], name: &str) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|source| ClientError::Address { address: address.to_owned(), source })?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities_pem)).domain_name(name);
    Ok(endpoint
        .tls_config(tls)
        .map_err(|source| ClientError::Authority { source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// The client of the agent stream over a channel, with the node's bearer token (RFC 6750 §2.1) on every request.
pub fn agents(
    channel: Channel,
    token: &str,
) -> Result<AgentsClient<InterceptedService<Channel, Bearer>>, ClientError> {
    let client = AgentsClient::with_interceptor(channel, Bearer::new(token)?);
    Ok(client
        .max_decoding_message_size(MAX_FROM_CONTROLLER_BYTES)
        .max_encoding_message_size(MAX_FROM_AGENT_BYTES))
}

/// Puts the token into the request.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// From a token's text; white space around it does not count.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed_and_garbage_is_refused() {
        let bearer = Bearer::new(" secret\n").unwrap();
        assert!(!format!("{bearer:?}").contains("secret"));
        let request = bearer.clone().call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
        assert!(matches!(Bearer::new("two\nlines"), Err(ClientError::Token)));
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let error = endpoint("no address", b"", "n").unwrap_err();
        assert!(error.to_string().contains("`no address`"), "{error}");
    }
}
