//! The form that a request takes on a connection of either version.

use http::header::HOST;
use http::uri::{Authority, Scheme as UriScheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use crate::http::body::RequestBody;
use crate::http::origin::{Origin, Scheme};

/// Puts the request into origin form, with the prefix and a `Host`.
pub(super) fn for_h1(
    origin: &Origin,
    authority: &HeaderValue,
    mut request: Request<RequestBody>,
) -> Request<RequestBody> {
    if *request.method() != Method::CONNECT
        && (!origin.prefix.is_empty() || request.uri().authority().is_some())
    {
        *request.uri_mut() = Uri::from(origin.path(request.uri()));
    }
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.clone());
    }
    *request.version_mut() = http::Version::HTTP_11;
    request
}

/// Puts the request into HTTP/2's form: `Host` becomes the authority.
pub(super) fn for_h2(
    origin: &Origin,
    host: &HeaderValue,
    mut request: Request<RequestBody>,
) -> Request<RequestBody> {
    let named = request.headers().get(HOST).unwrap_or(host);
    let authority = Authority::try_from(named.as_bytes()).ok();
    let path = origin.path(request.uri());
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.path_and_query = Some(path);
    uri.authority = authority.or_else(|| Authority::try_from(origin.authority()).ok());
    uri.scheme = Some(match origin.scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    *request.version_mut() = http::Version::HTTP_2;
    if request.headers().contains_key(HOST) {
        // Not `remove`: it moves the last field to the place of the removed one.
        let mut headers = HeaderMap::with_capacity(request.headers().len());
        for (name, value) in request.headers() {
            if name != HOST {
                headers.append(name, value.clone());
            }
        }
        *request.headers_mut() = headers;
    }
    request
}
