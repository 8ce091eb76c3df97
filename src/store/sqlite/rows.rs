//! Rows on their way in (as one JSON array for `json_each`) and out (column by column).

use std::fmt::Write as _;

use sqlx::{Decode, Row, Sqlite, sqlite::SqliteRow};
use uuid::Uuid;

use super::error::{store_error, unreadable};
use crate::{
    domain::{JobId, JobState, ShardId, Timestamp},
    store::StoreError,
};

/// Rows for one statement: `[[…],[…]]`, read by `jsonb_each(?1)` with `value ->> n`. One statement for a
/// batch's rows instead of one for each: what a statement costs here is mostly its way to the
/// connection's thread and back.
#[derive(Debug, Default)]
pub(super) struct Rows {
    text: String,
    len: u64,
    open: bool,
}

impl Rows {
    /// Begins a row.
    pub(super) fn row(&mut self) -> &mut Self {
        self.text.push_str(if self.text.is_empty() { "[[" } else { "],[" });
        self.open = false;
        self.len += 1;
        self
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The array's text.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "[]" } else { "]]" });
        self.text
    }

    fn comma(&mut self) {
        if self.open {
            self.text.push(',');
        }
        self.open = true;
    }

    /// An integer.
    pub(super) fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        self.comma();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{}", value.into());
        self
    }

    /// An integer or null.
    pub(super) fn opt_int(&mut self, value: Option<impl Into<i64>>) -> &mut Self {
        match value {
            Some(value) => self.int(value),
            None => self.null(),
        }
    }

    /// Null.
    pub(super) fn null(&mut self) -> &mut Self {
        self.comma();
        self.text.push_str("null");
        self
    }

    /// Bytes, as hex for `unhex`.
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.comma();
        self.text.push('"');
        for byte in value {
            self.text.push(char::from(HEX[usize::from(byte >> 4)]));
            self.text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        self.text.push('"');
        self
    }

    /// An id, as hex for `unhex`.
    pub(super) fn id(&mut self, id: JobId) -> &mut Self {
        self.bytes(id.0.as_bytes())
    }

    /// An id or null.
    pub(super) fn opt_uuid(&mut self, id: Option<Uuid>) -> &mut Self {
        match id {
            Some(id) => self.bytes(id.as_bytes()),
            None => self.null(),
        }
    }

    /// Text.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.comma();
        self.text.push('"');
        let mut plain = 0;
        for (at, byte) in value.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.text.push_str(&value[plain..at]);
            plain = at + 1;
            match byte {
                b'"' => self.text.push_str("\\\""),
                b'\\' => self.text.push_str("\\\\"),
                control => {
                    let _ = write!(self.text, "\\u{control:04x}");
                }
            }
        }
        self.text.push_str(&value[plain..]);
        self.text.push('"');
        self
    }

    /// Text or null.
    pub(super) fn opt_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }
}

/// Ids for a statement that reads by them: `["…",…]`, read by `unhex(value)`.
pub(super) fn ids(jobs: impl IntoIterator<Item = JobId>) -> String {
    let mut text = String::from("[");
    for job in jobs {
        if text.len() > 1 {
            text.push(',');
        }
        let _ = write!(text, "\"{}\"", job.0.simple());
    }
    text.push(']');
    text
}

/// Reads a row's columns in their order.
pub(super) struct Cols<'r> {
    row: &'r SqliteRow,
    at: usize,
}

impl<'r> Cols<'r> {
    pub(super) fn of(row: &'r SqliteRow) -> Self {
        Self { row, at: 0 }
    }

    /// The next column.
    pub(super) fn get<T: Decode<'r, Sqlite>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get_unchecked(self.at).map_err(store_error)?;
        self.at += 1;
        Ok(value)
    }

    /// Whether the next `columns` belong to no row of an outer join: the first, a key, is null. Then they
    /// are passed over.
    pub(super) fn absent(&mut self, columns: usize) -> Result<bool, StoreError> {
        let key: Option<&[u8]> = self.row.try_get_unchecked(self.at).map_err(store_error)?;
        if key.is_none() {
            self.at += columns;
        }
        Ok(key.is_none())
    }

    pub(super) fn job(&mut self) -> Result<JobId, StoreError> {
        self.get::<Uuid>().map(JobId)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.get::<i64>().map(Timestamp)
    }

    pub(super) fn opt_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp))
    }

    /// A number in a narrower type than SQLite's.
    pub(super) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        T::try_from(self.get::<i64>()?).map_err(|_| unreadable("number"))
    }

    pub(super) fn shard(&mut self) -> Result<ShardId, StoreError> {
        self.int().map(ShardId)
    }

    /// A code, by the function that knows it.
    pub(super) fn code<T>(&mut self, from: fn(i16) -> Option<T>) -> Result<T, StoreError> {
        from(self.int()?).ok_or_else(|| unreadable("code"))
    }

    /// A code or null.
    pub(super) fn opt_code<T>(&mut self, from: fn(i16) -> Option<T>) -> Result<Option<T>, StoreError> {
        let Some(code) = self.get::<Option<i64>>()? else { return Ok(None) };
        i16::try_from(code).ok().and_then(from).map(Some).ok_or_else(|| unreadable("code"))
    }

    pub(super) fn state(&mut self) -> Result<JobState, StoreError> {
        self.code(JobState::from_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json_whatever_their_text_holds() {
        let mut rows = Rows::default();
        let odd = "a\"b\\c\u{1}\n\u{0}ü\u{2028}";
        rows.row().text(odd).int(7).null().bytes(&[0, 255]);
        rows.row().opt_text(None).opt_int(None::<i64>);
        assert_eq!(rows.len(), 2);
        let text = rows.finish();
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value, serde_json::json!([[odd, 7, null, "00ff"], [null, null]]));
        assert_eq!(Rows::default().finish(), "[]");
    }
}
