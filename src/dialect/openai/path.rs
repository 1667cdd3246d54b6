//! Which operation a method and a path ask for.

use http::Method;

use crate::dialect::facts::Operation;

/// Returns the operation that `method` on `target` (path and query) asks for; none when it is not OpenAI's. Told by the
/// path's end, since servers put it behind prefixes of their own: `/v1`, `/api/v1`, `/openai/deployments/{id}`.
pub(in crate::dialect) fn operation(method: &Method, target: &str) -> Option<Operation> {
    let path = path(target).trim_end_matches('/');
    if method == Method::POST {
        [
            ("/chat/completions", Operation::Chat),
            ("/completions", Operation::Completion),
            ("/embeddings", Operation::Embedding),
        ]
        .into_iter()
        .find_map(|(end, operation)| path.ends_with(end).then_some(operation))
    } else if method == Method::GET || method == Method::HEAD {
        let one_of_them = path.rsplit_once("/models/").is_some_and(|(prefix, name)| {
            !name.contains(':') && (prefix.is_empty() || prefix.ends_with("/v1"))
        });
        (path.ends_with("/models") || one_of_them).then_some(Operation::Models)
    } else {
        None
    }
}

/// Returns the path of a request target in origin or absolute form, without the query.
fn path(target: &str) -> &str {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    match path.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("", |slash| &rest[slash..])
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_end_decides() {
        for (method, target, expected) in [
            ("POST", "/v1/chat/completions", Some(Operation::Chat)),
            ("POST", "/chat/completions?api-version=2024-10-21", Some(Operation::Chat)),
            ("POST", "/openai/deployments/gpt-x/chat/completions", Some(Operation::Chat)),
            ("POST", "http://host:8000/v1/chat/completions/", Some(Operation::Chat)),
            ("POST", "/v1/completions", Some(Operation::Completion)),
            ("POST", "/api/v1/embeddings", Some(Operation::Embedding)),
            ("GET", "/v1/models", Some(Operation::Models)),
            ("GET", "/v1/models/org/name-7b", Some(Operation::Models)),
            ("HEAD", "/models", Some(Operation::Models)),
            ("GET", "/v1/chat/completions", None),
            ("OPTIONS", "/v1/chat/completions", None),
            ("POST", "/v1/models/gemini-x:streamGenerateContent?alt=sse", None),
            ("POST", "/v1/messages", None),
            ("POST", "/v1/responses", None),
            ("POST", "/completion", None),
            ("POST", "/v1/mycompletions", None),
            ("GET", "/?next=/v1/models", None),
            ("POST", "", None),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(operation(&method, target), expected, "{method} {target}");
        }
    }
}
