//! Reads which file of an export is sent a link to.

use std::time::Duration;

use super::{
    fields::{At, Names, Table},
    yaml::Notes,
};
use crate::{
    config::did_you_mean,
    domain::{FileExport, FileFormat, Payload},
};

const FILE: Names = Names { known: &["format", "expires_hours"], later: &[], read_only: &[] };

/// How long a link may work, in hours: a week at most (SmartDocumentor's page).
const HOURS: std::ops::RangeInclusive<u32> = 1..=168;

/// The field cannot be used; why is noted.
pub(super) struct Noted;

/// The field `file`, which the payload `smartdocumentor_file` needs and no other has.
pub(super) fn file(
    subscription: &Table<'_>,
    payload: Option<Payload>,
    notes: &mut Notes,
) -> Result<Option<FileExport>, Noted> {
    let wanted = payload == Some(Payload::SmartDocumentorFile);
    let Some(at) = subscription.get("file") else {
        if wanted {
            subscription.required("file", notes).ok_or(Noted)?;
        }
        return Ok(None);
    };
    if !wanted {
        at.problem(notes, "belongs to the payload smartdocumentor_file only: leave it out");
        return Err(Noted);
    }
    export(&at, notes).map(Some).ok_or(Noted)
}

fn export(at: &At<'_>, notes: &mut Notes) -> Option<FileExport> {
    let table = at.table(notes)?;
    table.check_names(&FILE, notes);
    let format = table.required("format", notes).and_then(|at| format(&at, notes));
    let hours = table.required("expires_hours", notes).and_then(|at| at.number(HOURS, notes));
    Some(FileExport { format: format?, valid_for: Duration::from_hours(hours?.into()) })
}

/// In small letters, as everywhere here, or in capitals, as on SmartDocumentor's page.
fn format(at: &At<'_>, notes: &mut Notes) -> Option<FileFormat> {
    let text = at.text(notes)?;
    let found = FileFormat::ALL.into_iter().find(|format| format.as_str().eq_ignore_ascii_case(text));
    if found.is_none() {
        let names = FileFormat::ALL.map(FileFormat::as_str);
        at.problem(notes, format!("expected one of {}, got {text:?}{}", names.join(", "), did_you_mean(text, names)));
    }
    found
}
