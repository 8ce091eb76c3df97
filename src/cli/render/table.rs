//! Tables of one line a row that fit the terminal.

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, TableStyle, Width,
    presets::NOTHING,
};

use super::paint::Tone;
use crate::cli::{
    screen::View,
    text::{clean, cut},
};

/// The longest text that is looked at for a cell: no terminal is nearly as wide.
const CELL_CHARS_MAX: usize = 400;
/// Between columns.
const GAP: usize = 2;
/// A column that may shrink still shows that much.
const SHRUNK_MIN: usize = 8;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    right: bool,
    /// Its texts are never shortened.
    whole: bool,
    /// What is left of its texts at least.
    least: usize,
    /// Where there is no room, columns of a higher rank go first; 0 stays.
    rank: u8,
}

impl Column {
    /// A column of short words or numbers, shown whole.
    pub(super) const fn whole(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, whole: true, least: 0, rank }
    }

    /// A column of texts, shortened where there is no room.
    pub(super) const fn text(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, whole: false, least: SHRUNK_MIN, rank }
    }

    /// Shortened to no less than this.
    pub(super) const fn at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// To the right, as numbers are.
    pub(super) const fn right(self) -> Self {
        Self { right: true, ..self }
    }
}

/// Rows under columns.
#[derive(Debug)]
pub(super) struct Rows<const N: usize> {
    columns: [Column; N],
    rows: Vec<[(String, Tone); N]>,
}

impl<const N: usize> Rows<N> {
    pub(super) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; its texts may be anything.
    pub(super) fn push(&mut self, cells: [(&str, Tone); N]) {
        self.rows.push(cells.map(|(text, tone)| (cut(&clean(text), CELL_CHARS_MAX).into_owned(), tone)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, each line indented by `indent`; with titles or without.
    pub(super) fn text(&self, titles: bool, indent: usize, view: &View) -> String {
        let width = view.width.map(|width| usize::from(width).saturating_sub(indent).max(1));
        let shown = self.fitting(titles, width);
        let widths = width.map(|width| self.widths(&shown, titles, width));
        let mut table = Table::new();
        table
            .load_style(TableStyle { ..NOTHING })
            .force_no_tty()
            .set_content_arrangement(ContentArrangement::Disabled)
            // Cells are shortened anywhere, not between words: clean text has no such character.
            .set_delimiter('\u{1f}');
        if view.colour {
            table.enforce_styling();
        }
        if titles {
            let mut header =
                Row::from(shown.iter().map(|&column| self.columns[column].title).collect::<Vec<_>>());
            header.max_height(1);
            table.set_header(header);
        }
        for row in &self.rows {
            let cells = shown.iter().map(|&column| {
                let (text, tone) = &row[column];
                match tone.color().filter(|_| view.colour) {
                    Some(color) => Cell::new(text).fg(color),
                    None => Cell::new(text),
                }
            });
            let mut row = Row::from(cells.collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        if let Some(width) = width {
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (at, &index) in shown.iter().enumerate() {
            let column = self.columns[index];
            let Some(drawn) = table.column_mut(at) else { continue };
            let gap = if at + 1 == shown.len() { 0 } else { GAP };
            drawn.set_padding((0, u16::try_from(gap).unwrap_or(0)));
            if column.right {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
            if let Some(widths) = &widths {
                let width = u16::try_from(widths[at] + gap).unwrap_or(u16::MAX);
                drawn.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            }
        }
        let margin = " ".repeat(indent);
        table.lines().map(|line| format!("{margin}{}\n", line.trim_end())).collect()
    }

    /// The columns that have room: the ones of the highest rank are left out until the rest fits.
    fn fitting(&self, titles: bool, width: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..N).filter(|&column| self.is_used(column)).collect();
        let Some(width) = width else { return shown };
        loop {
            let least: usize = shown.iter().map(|&column| self.least_width(column, titles)).sum();
            if least + GAP * shown.len().saturating_sub(1) <= width {
                return shown;
            }
            let last = shown.iter().copied().max_by_key(|&column| self.columns[column].rank);
            match last.filter(|&column| self.columns[column].rank > 0) {
                Some(column) => shown.retain(|&other| other != column),
                None => return shown,
            }
        }
    }

    /// Each shown column's least, and the room that is left to those that must be seen most.
    fn widths(&self, shown: &[usize], titles: bool, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = shown.iter().map(|&column| self.least_width(column, titles)).collect();
        let taken = widths.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1);
        let mut left = width.saturating_sub(taken);
        let mut order: Vec<usize> = (0..shown.len()).collect();
        order.sort_by_key(|&at| self.columns[shown[at]].rank);
        for at in order {
            let more = (self.natural_width(shown[at], titles) - widths[at]).min(left);
            widths[at] += more;
            left -= more;
        }
        widths
    }

    /// Whether any row says anything there.
    fn is_used(&self, column: usize) -> bool {
        self.columns[column].rank == 0 || self.rows.iter().any(|row| !row[column].0.is_empty())
    }

    fn least_width(&self, column: usize, titles: bool) -> usize {
        let natural = self.natural_width(column, titles);
        if self.columns[column].whole { natural } else { natural.min(self.columns[column].least) }
    }

    fn natural_width(&self, column: usize, titles: bool) -> usize {
        let title = if titles { self.columns[column].title.len() } else { 0 };
        // Wide characters take more; tables then overflow by little, and only where nothing may shrink.
        self.rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or(0).max(title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    fn sample() -> Rows<4> {
        let mut rows = Rows::new([
            Column::whole("ID", 0),
            Column::whole("STATE", 0),
            Column::whole("N", 2).right(),
            Column::text("ERROR", 1),
        ]);
        rows.push([("a1", Tone::Plain), ("active", Tone::Busy), ("1", Tone::Plain), ("", Tone::Plain)]);
        let long = "could not reach the host: connection refused after three tries";
        rows.push([("b22", Tone::Plain), ("failed", Tone::Bad), ("12", Tone::Plain), (long, Tone::Plain)]);
        rows
    }

    #[test]
    fn without_a_terminal_nothing_is_shortened() {
        assert_eq!(
            sample().text(true, 2, &samples::view(None)),
            "  ID   STATE    N  ERROR\n  a1   active   1\n  b22  failed  12  could not reach the host: \
             connection refused after three tries\n"
        );
    }

    #[test]
    fn long_texts_are_shortened_to_the_width() {
        let text = sample().text(true, 0, &samples::view(Some(40)));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("b22  failed  12  could not") && text.contains('…'), "{text}");
    }

    #[test]
    fn columns_are_left_out_before_lines_break() {
        let text = sample().text(true, 0, &samples::view(Some(14)));
        assert_eq!(text, "ID   STATE\na1   active\nb22  failed\n");
    }

    #[test]
    fn hostile_cells_are_harmless_and_keep_their_line() {
        for hostile in corpus::HOSTILE {
            let mut rows = Rows::new([Column::text("A", 0), Column::text("B", 0)]);
            rows.push([(hostile, Tone::Plain), ("x\ny", Tone::Plain)]);
            for width in [None, Some(10), Some(80)] {
                let text = rows.text(false, 0, &samples::view(width));
                corpus::assert_harmless(&text);
                assert_eq!(text.lines().count(), 1, "{text:?}");
            }
        }
    }

    #[test]
    fn colours_are_used_only_when_wanted() {
        let view = View { colour: true, ..samples::view(None) };
        assert!(sample().text(false, 0, &view).contains("\x1b["));
        assert!(!sample().text(false, 0, &samples::view(None)).contains('\x1b'));
    }
}
