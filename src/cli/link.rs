//! The `Link` header of a list.

/// The query of the page that `header` calls the next. Only the query: the path is known, and a node behind a
/// proxy may name it without the prefix under which we reach it; nor is a key ever sent where an answer says.
pub(super) fn next_query(header: &str) -> Option<String> {
    let mut rest = header;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        let (parameters, next) = until_comma(after);
        if is_next(parameters) {
            let target = target.split('#').next().unwrap_or_default();
            return target.split_once('?').map(|(_, query)| query.to_owned());
        }
        rest = next?;
    }
}

/// Splits at the first comma outside of quotes.
fn until_comma(text: &str) -> (&str, Option<&str>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

fn is_next(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .trim()
                .trim_matches('"')
                .split_ascii_whitespace()
                .any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::next_query;

    #[test]
    fn the_next_page_is_found_in_every_form_of_the_header() {
        for header in [
            r#"</api/v1/jobs?limit=2&cursor=abc>; rel="next""#,
            r#"<https://node/pre/api/v1/jobs?limit=2&cursor=abc>;rel=next"#,
            r#"</a?x=1,2>; rel="prev"; title="a, <b>", </api/v1/jobs?limit=2&cursor=abc#f>; REL="last Next""#,
        ] {
            assert_eq!(next_query(header).as_deref(), Some("limit=2&cursor=abc"), "{header}");
        }
    }

    #[test]
    fn other_headers_have_no_next_page() {
        for header in ["", "<", r#"</jobs?cursor=a>; rel="prev""#, r#"</jobs>; rel="next""#, "</jobs?c=a>"] {
            assert_eq!(next_query(header), None, "{header}");
        }
    }
}
