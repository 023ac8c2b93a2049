//! Reads the resource usage of a process and the description of the machine from `/proc` (proc(5)).

use std::fs;
use std::io;
use std::path::Path;

/// Microseconds per clock tick: `USER_HZ` is 100 in every Linux user space.
const TICK_US: u64 = 10_000;
/// Name of the file system on which an fsync costs nothing.
const TMPFS: &str = "tmpfs";

/// CPU time and written bytes of a process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) user_us: u64,
    pub(super) system_us: u64,
    /// Bytes that the process caused to be written to storage.
    pub(super) written_bytes: u64,
}

/// Memory usage of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Memory {
    pub(super) resident_bytes: u64,
    /// Peak resident memory.
    pub(super) peak_bytes: u64,
}

/// The machine that the bench ran on.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) cpu: String,
    pub(super) kernel: String,
    pub(super) memory_bytes: u64,
    /// File system of the data folder.
    pub(super) file_system: String,
}

/// Reads the usage of a process from `/proc/<pid>/stat` and `/proc/<pid>/io`.
pub(super) fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let (user_us, system_us) = parse_stat(&stat).ok_or_else(|| io::Error::other("/proc/<pid>/stat"))?;
    Ok(Usage { user_us, system_us, written_bytes: field(&io, "write_bytes:").unwrap_or(0) })
}

/// Reads the memory usage of a process from `/proc/<pid>/status`.
pub(super) fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name| field(&status, name).unwrap_or(0) * 1024;
    Ok(Memory { resident_bytes: kib("VmRSS:"), peak_bytes: kib("VmHWM:") })
}

/// Reads the description of the machine and the file system of `folder`. Values that cannot be read are `unknown`,
/// empty, or 0.
pub(super) fn machine(folder: &Path) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let mounts = read("/proc/self/mounts");
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_bytes: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024,
        file_system: file_system(&mounts, folder).unwrap_or("unknown").to_owned(),
    }
}

impl Machine {
    /// Whether the data folder is in memory, where an fsync costs nothing. Results then say less.
    pub(super) fn is_memory_only(&self) -> bool {
        self.file_system == TMPFS
    }
}

/// User and system time in microseconds. The command name may contain any characters, so fields are counted from the
/// last bracket.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || Some(fields.next()?.parse::<u64>().ok()? * TICK_US);
    Some((next()?, next()?))
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The type of the mount that contains `folder`: the mount with the longest path, and the last one among equals.
fn file_system<'m>(mounts: &'m str, folder: &Path) -> Option<&'m str> {
    let mount = |line: &'m str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((words.next()?, words.next()?))
    };
    let holding = mounts.lines().filter_map(mount).filter(|(path, _)| folder.starts_with(path));
    holding.max_by_key(|(path, _)| path.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_follow_any_command_name() {
        let stat = "4242 (a) b (c) S 1 4242 4242 0 -1 4194304 900 0 0 0 321 123 0 0 20 0 9 0 1000 1 2";
        assert_eq!(parse_stat(stat), Some((3_210_000, 1_230_000)));
        assert_eq!(parse_stat("4242 (x"), None);
    }

    #[test]
    fn fields_are_whole_names() {
        let io = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(field(io, "write_bytes:"), Some(4096));
        assert_eq!(field("VmHWM:\t   12345 kB\n", "VmHWM:"), Some(12345));
        assert_eq!(field(io, "nothing:"), None);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmpfiles xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpfiles")), Some("xfs"));
        assert_eq!(file_system(mounts, Path::new("/var")), Some("ext4"));
    }

    #[test]
    fn this_process_has_used_something() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
        assert!(usage(std::process::id()).is_ok());
        assert!(machine(Path::new("/")).cores > 0);
    }
}
