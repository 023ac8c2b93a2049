//! The table of jobs: from a job's number to its JSON.

use redb::{Error, ReadableTable, Table};

use crate::storage::delivery::Job;

/// Writes a job.
pub(super) fn put(table: &mut Table<'_, u64, &'static [u8]>, job: &Job) -> Result<(), Error> {
    let json = serde_json::to_vec(job).map_err(|error| Error::Corrupted(format!("job {}: {error}", job.no)))?;
    table.insert(job.no, json.as_slice())?;
    Ok(())
}

/// Returns all jobs of the table, in the order of their numbers.
pub(super) fn load(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Job>, Error> {
    table
        .iter()?
        .map(|entry| {
            let (no, json) = entry?;
            let job: Job = serde_json::from_slice(json.value())
                .map_err(|error| Error::Corrupted(format!("job {}: {error}", no.value())))?;
            Ok(Job { no: no.value(), ..job })
        })
        .collect()
}
