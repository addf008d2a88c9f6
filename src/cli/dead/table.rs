//! Dead letters as a table with totals.

use std::{collections::BTreeMap, fmt};

use super::origin;
use crate::{broker::operator::Letter, cli::for_people};

const HEADINGS: [&str; 7] = ["AT", "REASON", "FIELD", "ORGANIZATION", "ORIGIN", "BYTES", "MESSAGE ID"];

/// So many rows are shown; the totals count all.
const SHOWN: usize = 1000;

/// Rows and totals.
#[derive(Debug, Default)]
pub(super) struct Table {
    shown: Vec<[String; 7]>,
    rows: u64,
    reasons: BTreeMap<String, u64>,
    organizations: BTreeMap<String, u64>,
}

impl Table {
    pub(super) fn add(&mut self, letter: &Letter) {
        let row = [
            letter.at.clone(),
            letter.reason.clone(),
            letter.field.clone(),
            letter.organizations.join(", "),
            origin(letter).to_owned(),
            letter.body.len().to_string(),
            letter.message_id.clone().unwrap_or_default(),
        ];
        self.add_row(row, &letter.organizations);
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// One that holds what several organizations are owed counts for each.
    fn add_row(&mut self, row: [String; 7], organizations: &[String]) {
        let shown = |cell: &str| if cell.is_empty() { "-".to_owned() } else { for_people(cell, 64) };
        let row = row.map(|cell| shown(&cell));
        let [_, reason, ..] = &row;
        *self.reasons.entry(reason.clone()).or_default() += 1;
        let unknown = [String::new()];
        for organization in if organizations.is_empty() { &unknown } else { organizations } {
            *self.organizations.entry(shown(organization)).or_default() += 1;
        }
        self.rows += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(row);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows == 0 {
            return writeln!(f, "No dead letters.");
        }
        let headings = HEADINGS.map(str::to_owned);
        let mut widths = [0; 7];
        for row in self.shown.iter().chain([&headings]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in [&headings].into_iter().chain(&self.shown) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        let hidden = self.rows - self.shown.len() as u64;
        if hidden > 0 {
            writeln!(f, "… and {hidden} more")?;
        }
        writeln!(f, "\nby reason        {}", totals(&self.reasons))?;
        writeln!(f, "by organization  {}", totals(&self.organizations))?;
        writeln!(f, "in all           {}", self.rows)
    }
}

/// The most frequent first.
fn totals(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reason: &str, organization: &str) -> [String; 7] {
        ["", reason, "", organization, "events", "7", "m\u{1b}"].map(str::to_owned)
    }

    #[test]
    fn the_table_lines_up_and_ends_with_totals() {
        let mut table = Table::default();
        for (reason, organization) in [("bad_json", "acme"), ("too_long", "globex"), ("too_long", "acme")] {
            table.add_row(row(reason, organization), &[organization.to_owned()]);
        }
        assert_eq!(
            table.to_string(),
            "AT  REASON    FIELD  ORGANIZATION  ORIGIN  BYTES  MESSAGE ID\n\
             -   bad_json  -      acme          events  7      m\n\
             -   too_long  -      globex        events  7      m\n\
             -   too_long  -      acme          events  7      m\n\
             \n\
             by reason        too_long 2, bad_json 1\n\
             by organization  acme 2, globex 1\n\
             in all           3\n"
        );
        assert_eq!(Table::default().to_string(), "No dead letters.\n");
    }

    #[test]
    fn very_many_rows_are_counted_and_not_all_shown() {
        let mut table = Table::default();
        (0..SHOWN + 5).for_each(|_| table.add_row(row("undecodable", "-"), &[]));
        assert!(table.to_string().contains("… and 5 more\n"));
        assert!(table.to_string().contains("undecodable 1005"));
    }
}
