//! The spelling rules of the API (apimachinery `util/validation`): names, labels, port names.

/// A DNS-1123 label: the name of a namespace.
pub(crate) fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS-1123 subdomain: the name of most objects.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// A qualified name, `[PREFIX/]NAME`: the key of a label (`IsQualifiedName`).
pub(crate) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// The value of a label (`IsValidLabelValue`); may be empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// The name of a port (`IsValidPortName`, RFC 6335 §5.1).
pub(crate) fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for key in ["app", "app.kubernetes.io/name", "a_b", "A", "9"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", "/app", "app/", "a b", "-a", "a/b/c", "A.b/c", "a..b/c", &"a".repeat(64)] {
            assert!(!is_label_key(key), "{key}");
        }
        for value in ["", "web", "1.2_3-x"] {
            assert!(is_label_value(value), "{value}");
        }
        for value in ["-web", "web.", "w b", "ü"] {
            assert!(!is_label_value(value), "{value}");
        }
    }

    #[test]
    fn names() {
        assert!(is_port_name("http") && is_port_name("p2p-x"));
        for name in ["", "80", "Http", "a--b", "-a", "a-", "sixteen-letters-"] {
            assert!(!is_port_name(name), "{name}");
        }
        assert!(is_dns_subdomain("cart.shop-1") && !is_dns_subdomain("Cart") && !is_dns_subdomain("a..b"));
        assert!(is_dns_label("shop") && !is_dns_label("a.b") && !is_dns_label("../x"));
    }
}
