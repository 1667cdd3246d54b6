//! A table of a report: text in cells, written the same in HTML, Markdown and the terminal.

/// A table: the first column is words, the others mostly numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: &'static str,
    /// What has to be known to read it.
    pub note: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// Whether any column has a name.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.head.iter().any(|name| !name.is_empty())
    }

    /// Whether a column holds words, not numbers.
    #[must_use]
    pub fn is_words(&self, column: usize) -> bool {
        let number = |row: &Vec<String>| {
            row.get(column).is_some_and(|cell| {
                cell == NONE
                    || cell.starts_with(|c: char| {
                        c.is_ascii_digit() || c == '-' || c == '<' || c == '>'
                    })
            })
        };
        !self.rows.iter().all(number)
    }
}

/// What a table shows where there is no value.
pub(super) const NONE: &str = "–";

pub(super) fn none() -> String {
    NONE.to_owned()
}

/// The first `most` characters, on one line.
pub(super) fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_numbers_are_told_from_words() {
        let rows = [["http 503", "1,000", "–", "<0.1 %"], ["reset", "12.3 ms", "4", "server"]];
        let table = Table {
            head: vec![String::new(); 4],
            rows: rows.map(|row| row.map(str::to_owned).to_vec()).to_vec(),
            ..Table::default()
        };
        let words: Vec<bool> = (0..4).map(|column| table.is_words(column)).collect();
        assert_eq!(words, [true, false, false, true]);
        assert!(!table.has_head());
    }

    #[test]
    fn long_text_is_cut_on_one_line() {
        assert_eq!(short("a  b\nc", 10), "a b c");
        assert_eq!(short("äöüß", 2), "äö…");
    }
}
