//! The machine of `kernel.rs` as a mounted file system, which blocks, fails and forgets as configfs does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use super::kernel::{Attribute, EFBIG, ENOENT, MAX_INBLOB, Machine};

/// A mounted emulation of `/sys/kernel/config/tsm/report`.
pub struct Configfs {
    shared: Arc<Shared>,
    root: PathBuf,
    session: Option<BackgroundSession>,
}

struct Shared {
    machine: Mutex<Machine>,
    open: Mutex<Open>,
    hang: Mutex<Hang>,
}

#[derive(Default)]
struct Open {
    last: u64,
    written: HashMap<u64, Vec<u8>>,
    /// What a file held when its first byte was read: configfs fills its buffer once for each open file.
    read: HashMap<u64, Vec<u8>>,
}

#[derive(Default)]
struct Hang {
    reports: bool,
    mkdirs: bool,
    held: Vec<Answer>,
}

type Answer = Box<dyn FnOnce(&Shared) + Send>;

impl Configfs {
    /// Mounts it, or says why this machine cannot; then `TOWER_ATTEST_REQUIRE_FUSE=1` makes that a failure.
    pub fn mount(machine: Machine) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tower-attest-tsm-{}-{number}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let shared = Arc::new(Shared { machine: Mutex::new(machine), open: Mutex::default(), hang: Mutex::default() });
        match fuser::spawn_mount(Fuse(Arc::clone(&shared)), &root, &Config::default()) {
            Ok(session) => Some(Self { shared, root, session: Some(session) }),
            Err(error) => {
                let _ = std::fs::remove_dir(&root);
                let required = std::env::var_os("TOWER_ATTEST_REQUIRE_FUSE").is_some_and(|value| value == "1");
                assert!(!required, "TOWER_ATTEST_REQUIRE_FUSE is set, and FUSE cannot be mounted: {error}");
                eprintln!("SKIPPED, because FUSE cannot be mounted here: {error}");
                None
            }
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.shared.machine)
    }

    /// The directories that exist now.
    pub fn entries(&self) -> Vec<String> {
        let list = std::fs::read_dir(&self.root).unwrap();
        list.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    pub fn hang_reports(&self) {
        lock(&self.shared.hang).reports = true;
    }

    pub fn hang_mkdirs(&self) {
        lock(&self.shared.hang).mkdirs = true;
    }

    /// How many callers hang now.
    pub fn hanging(&self) -> usize {
        lock(&self.shared.hang).held.len()
    }

    /// Nobody hangs any more, and those who did get their answer.
    pub fn release(&self) {
        let mut hang = lock(&self.shared.hang);
        (hang.reports, hang.mkdirs) = (false, false);
        let held = std::mem::take(&mut hang.held);
        drop(hang);
        held.into_iter().for_each(|answer| answer(&self.shared));
    }
}

impl Drop for Configfs {
    fn drop(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
        let _ = std::fs::remove_dir(&self.root);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing is cached: attributes exist the instant `mkdir` returns, and each read asks.
const NO_TTL: Duration = Duration::ZERO;
/// Inode numbers of one item: its directory, then its attributes.
const SPAN: u64 = 16;

struct Fuse(Arc<Shared>);

enum Node {
    Root,
    Item(u64),
    Attribute(u64, usize),
}

impl Node {
    fn of(ino: INodeNo) -> Self {
        match (ino.0 / SPAN, ino.0 % SPAN) {
            (0, _) => Self::Root,
            (id, 0) => Self::Item(id),
            (id, index) => Self::Attribute(id, index as usize - 1),
        }
    }
}

fn directory(ino: u64) -> FileAttr {
    attr(ino, FileType::Directory, 0o755)
}

fn attr(ino: u64, kind: FileType, perm: u16) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        // As in configfs, this is not the length of what can be read.
        size: if kind == FileType::Directory { 0 } else { 4096 },
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn errno(number: i32) -> Errno {
    Errno::from_i32(number)
}

impl Shared {
    fn attr_of(&self, node: &Node) -> Option<FileAttr> {
        let machine = lock(&self.machine);
        match node {
            Node::Root => Some(directory(1)),
            Node::Item(id) => machine.exists(*id).then(|| directory(id * SPAN)),
            Node::Attribute(id, index) => {
                let (attribute, _, perm) = Attribute::ALL.get(*index)?;
                let there = machine.exists(*id) && !machine.hidden.contains(attribute);
                there.then(|| attr(id * SPAN + 1 + *index as u64, FileType::RegularFile, *perm))
            }
        }
    }

    fn mkdir(&self, name: &str, reply: ReplyEntry) {
        match lock(&self.machine).mkdir(name) {
            Ok(id) => reply.entry(&NO_TTL, &directory(id * SPAN), Generation(0)),
            Err(number) => reply.error(errno(number)),
        }
    }

    fn read(&self, node: &Node, handle: u64, offset: usize, size: usize, reply: ReplyData) {
        let Node::Attribute(id, index) = node else { return reply.error(errno(ENOENT)) };
        let mut open = lock(&self.open);
        let value = match open.read.entry(handle) {
            Entry::Occupied(filled) => filled.into_mut(),
            Entry::Vacant(empty) => match lock(&self.machine).show(*id, Attribute::ALL[*index].0) {
                Ok(value) => empty.insert(value),
                Err(number) => return reply.error(errno(number)),
            },
        };
        let rest = value.get(offset..).unwrap_or_default();
        reply.data(&rest[..rest.len().min(size)]);
    }
}

impl Filesystem for Fuse {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_string_lossy();
        let node = match Node::of(parent) {
            Node::Root => lock(&self.0.machine).find(&name).map(Node::Item),
            Node::Item(id) => Attribute::ALL.iter().position(|(_, n, _)| *n == name).map(|i| Node::Attribute(id, i)),
            Node::Attribute(..) => None,
        };
        match node.and_then(|node| self.0.attr_of(&node)) {
            Some(attr) => reply.entry(&NO_TTL, &attr, Generation(0)),
            None => reply.error(errno(ENOENT)),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attr_of(&Node::of(ino)) {
            Some(attr) => reply.attr(&NO_TTL, &attr),
            None => reply.error(errno(ENOENT)),
        }
    }

    fn mkdir(&self, _req: &Request, _parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let name = name.to_string_lossy().into_owned();
        let mut hang = lock(&self.0.hang);
        if hang.mkdirs {
            hang.held.push(Box::new(move |shared| shared.mkdir(&name, reply)));
        } else {
            drop(hang);
            self.0.mkdir(&name, reply);
        }
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match lock(&self.0.machine).rmdir(&name.to_string_lossy()) {
            Ok(()) => reply.ok(),
            Err(number) => reply.error(errno(number)),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match Node::of(ino) {
            Node::Root => lock(&self.0.machine).names(),
            _ => Vec::new(),
        };
        for (at, (id, name)) in names.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(id * SPAN), at as u64 + 1, FileType::Directory, name) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let mut open = lock(&self.0.open);
        open.last += 1;
        reply.opened(FileHandle(open.last), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let node = Node::of(ino);
        let is_report = matches!(node, Node::Attribute(_, index) if Attribute::ALL[index].0 == Attribute::OutBlob);
        let mut hang = lock(&self.0.hang);
        if hang.reports && is_report {
            hang.held.push(Box::new(move |shared| shared.read(&node, fh.0, offset as usize, size as usize, reply)));
        } else {
            drop(hang);
            self.0.read(&node, fh.0, offset as usize, size as usize, reply);
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Node::Attribute(id, index) = Node::of(ino) else { return reply.error(errno(ENOENT)) };
        let outcome = match Attribute::ALL[index].0 {
            Attribute::InBlob if offset as usize + data.len() > MAX_INBLOB => Err(EFBIG),
            Attribute::InBlob => {
                let mut open = lock(&self.0.open);
                let written = open.written.entry(fh.0).or_default();
                written.resize(offset as usize, 0);
                written.extend_from_slice(data);
                Ok(())
            }
            attribute => lock(&self.0.machine).store(id, attribute, data),
        };
        match outcome {
            Ok(()) => reply.written(data.len() as u32),
            Err(number) => reply.error(errno(number)),
        }
    }

    /// `close` waits for this one, and not for `release`.
    fn flush(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        let written = lock(&self.0.open).written.remove(&fh.0);
        if let (Some(inblob), Node::Attribute(id, _)) = (written, Node::of(ino)) {
            lock(&self.0.machine).commit(id, inblob);
        }
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.0.open).read.remove(&fh.0);
        reply.ok();
    }
}
