//! What the system grants: thread priorities, by which what has ended gives way to what goes on, and open files, of which
//! an open loop may need thousands. Where the system says no, the run goes on as it can.

/// Steps by which the results thread gives way (nice levels). The feeder does not: on a busy machine it would fall behind
/// the due times.
const LOWER: i32 = 10;
/// Level of the threads that release and read, where the system lets us (root, or `CAP_SYS_NICE`).
const RAISED: i32 = -10;

/// Lowers the priority of the calling thread.
#[cfg(target_os = "linux")]
pub(super) fn lower() {
    // On Linux a nice level belongs to the thread. A refusal costs accuracy only, and shows in the lateness.
    let _refused = rustix::process::setpriority_process(None, LOWER);
}

/// Raises the priority of the calling thread, if the system lets us.
#[cfg(target_os = "linux")]
pub(super) fn raise() {
    let _refused = rustix::process::setpriority_process(None, RAISED);
}

/// Elsewhere a nice level belongs to the process: left alone.
#[cfg(not(target_os = "linux"))]
pub(super) fn lower() {}

/// Elsewhere a nice level belongs to the process: left alone.
#[cfg(not(target_os = "linux"))]
pub(super) fn raise() {}

/// Raises the limit of open files as far as the system lets us: each exchange in flight needs a connection.
#[cfg(unix)]
pub(super) fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A refusal shows as failed connections once there are too many.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
pub(super) fn open_many_files() {}
