//! Whom `https` trusts.

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::EndpointError;

/// Trusts these roots, or the system's if there are none.
pub(super) fn config(roots: &[Vec<u8>]) -> Result<ClientConfig, EndpointError> {
    let tls = |error: rustls::Error| EndpointError::Tls(error.into());
    // Named, because a program that links two providers has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)?;
    let config = if roots.is_empty() {
        config.with_native_roots().map_err(EndpointError::Roots)?
    } else {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root.as_slice())).map_err(tls)?;
        }
        config.with_root_certificates(store)
    };
    Ok(config.with_no_client_auth())
}
