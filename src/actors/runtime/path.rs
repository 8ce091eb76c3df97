//! Paths in the tree: names from the root, joined by `/`; a name's own `/` and `%` are percent-encoded.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// `name` as one segment. Only what would be ambiguous is encoded: names stay readable.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['/', '%']) { name.replace('%', "%25").replace('/', "%2F").into() } else { name.into() }
}

/// The path of the child whose escaped name is `segment`.
pub(super) fn join(parent: &str, segment: &str) -> String {
    format!("{parent}/{segment}")
}

/// The names along `path`, decoded.
pub(super) fn names(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_stays_one_segment() {
        for name in ["mail", "a/b", "50%", "%2F", "тест/é", ""] {
            let path = join("node", &escape(name));
            assert_eq!(names(&path).collect::<Vec<_>>(), ["node", name], "{path}");
        }
    }
}
