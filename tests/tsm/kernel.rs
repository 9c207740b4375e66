//! What drivers/virt/coco/guest/report.c does, without a file system around it.

use std::collections::{BTreeMap, VecDeque};

pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const ENXIO: i32 = 6;
pub const EBUSY: i32 = 16;
pub const ENOENT: i32 = 2;
pub const EINVAL: i32 = 22;
pub const EFBIG: i32 = 27;
pub const ETIMEDOUT: i32 = 110;

pub const MAX_INBLOB: usize = 64;
pub const MAX_OUTBLOB: usize = 32 * 1024;

/// The attributes of an item, in the order of their inode numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    InBlob,
    OutBlob,
    AuxBlob,
    Generation,
    Provider,
    PrivLevel,
    PrivLevelFloor,
}

impl Attribute {
    pub const ALL: [(Self, &'static str, u16); 7] = [
        (Self::InBlob, "inblob", 0o200),
        (Self::OutBlob, "outblob", 0o444),
        (Self::AuxBlob, "auxblob", 0o444),
        (Self::Generation, "generation", 0o444),
        (Self::Provider, "provider", 0o444),
        (Self::PrivLevel, "privlevel", 0o200),
        (Self::PrivLevelFloor, "privlevel_floor", 0o444),
    ];
}

/// `outblob` and `auxblob` for 64 bytes and a privilege level, or an error number.
pub type Hardware = Box<dyn FnMut(&[u8; 64], u8) -> Result<(Vec<u8>, Vec<u8>), i32> + Send>;

/// When another process writes an `inblob` of its own into an item of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Just before our first read: the report is over his input.
    BeforeRead,
    /// Just after it: the report is ours, the next would be his.
    AfterRead,
}

pub struct Machine {
    /// `None`: no driver has registered.
    pub provider: Option<&'static str>,
    pub floor: u8,
    pub hidden: Vec<Attribute>,
    pub hardware: Hardware,
    /// Taken one by one, by each time that a report is to be made.
    pub faults: VecDeque<i32>,
    /// The same, by each time that an attribute is read.
    pub attribute_faults: VecDeque<(Attribute, i32)>,
    pub foreign: VecDeque<Foreign>,
    /// How many of the next `inblob`s are dropped when they are closed, which the kernel tells nobody.
    pub lose: u32,
    /// What does not fit is refused, as configfs does; off for a kernel that does not keep its own limit.
    pub limits_blobs: bool,
    /// Every directory ever made.
    pub made: u32,
    items: BTreeMap<u64, Item>,
}

struct Item {
    name: String,
    write_generation: u64,
    read_generation: u64,
    inblob: Vec<u8>,
    privlevel: u8,
    blobs: (Vec<u8>, Vec<u8>),
}

impl Machine {
    pub fn new(provider: &'static str, hardware: Hardware) -> Self {
        Self {
            provider: Some(provider),
            floor: 0,
            hidden: Vec::new(),
            hardware,
            faults: VecDeque::new(),
            attribute_faults: VecDeque::new(),
            foreign: VecDeque::new(),
            lose: 0,
            limits_blobs: true,
            made: 0,
            items: BTreeMap::new(),
        }
    }

    pub fn mkdir(&mut self, name: &str) -> Result<u64, i32> {
        if self.provider.is_none() {
            return Err(ENXIO);
        }
        self.made += 1;
        let id = u64::from(self.made);
        let item = Item {
            name: name.to_owned(),
            write_generation: 0,
            read_generation: 0,
            inblob: Vec::new(),
            privlevel: self.floor,
            blobs: Default::default(),
        };
        self.items.insert(id, item);
        Ok(id)
    }

    pub fn rmdir(&mut self, name: &str) -> Result<(), i32> {
        let id = self.find(name).ok_or(ENOENT)?;
        self.items.remove(&id);
        Ok(())
    }

    pub fn find(&self, name: &str) -> Option<u64> {
        self.items.iter().find(|(_, item)| item.name == name).map(|(id, _)| *id)
    }

    pub fn exists(&self, id: u64) -> bool {
        self.items.contains_key(&id)
    }

    pub fn names(&self) -> Vec<(u64, String)> {
        self.items.iter().map(|(id, item)| (*id, item.name.clone())).collect()
    }

    /// A text attribute: taken at once, by `write`.
    pub fn store(&mut self, id: u64, attribute: Attribute, value: &[u8]) -> Result<(), i32> {
        let floor = self.floor;
        let item = self.items.get_mut(&id).ok_or(ENOENT)?;
        let text = std::str::from_utf8(value).map_err(|_| EINVAL)?;
        match attribute {
            Attribute::PrivLevel => {
                let level: u8 = text.trim_end_matches('\n').parse().map_err(|_| EINVAL)?;
                if level < floor || level > 3 {
                    return Err(EINVAL);
                }
                item.advance()?;
                item.privlevel = level;
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }

    /// A binary attribute: taken when the file is closed, and nobody hears of an error.
    pub fn commit(&mut self, id: u64, inblob: Vec<u8>) {
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        if let Some(item) = self.items.get_mut(&id)
            && item.advance().is_ok()
        {
            item.inblob = inblob;
        }
    }

    pub fn show(&mut self, id: u64, attribute: Attribute) -> Result<Vec<u8>, i32> {
        if let Some(at) = self.attribute_faults.iter().position(|(of, _)| *of == attribute) {
            return Err(self.attribute_faults.remove(at).unwrap().1);
        }
        let provider = self.provider;
        let floor = self.floor;
        let item = self.items.get_mut(&id).ok_or(ENOENT)?;
        let text = match attribute {
            Attribute::Generation => item.write_generation.to_string(),
            Attribute::Provider => provider.ok_or(ENXIO)?.to_owned(),
            Attribute::PrivLevelFloor => floor.to_string(),
            Attribute::OutBlob | Attribute::AuxBlob => return self.blob(id, attribute),
            Attribute::InBlob | Attribute::PrivLevel => return Err(EINVAL),
        };
        Ok(format!("{text}\n").into_bytes())
    }

    fn blob(&mut self, id: u64, attribute: Attribute) -> Result<Vec<u8>, i32> {
        let item = self.items.get_mut(&id).ok_or(ENOENT)?;
        let foreign = if attribute == Attribute::OutBlob { self.foreign.pop_front() } else { None };
        if foreign == Some(Foreign::BeforeRead) {
            item.advance()?;
            item.inblob = vec![0xee; MAX_INBLOB];
        }
        if item.read_generation != item.write_generation || item.inblob.is_empty() {
            let data = item.inblob.first_chunk().filter(|_| item.inblob.len() == MAX_INBLOB).ok_or(EINVAL)?;
            if let Some(fault) = self.faults.pop_front() {
                return Err(fault);
            }
            item.blobs = (self.hardware)(data, item.privlevel)?;
            item.read_generation = item.write_generation;
        }
        if foreign == Some(Foreign::AfterRead) {
            item.advance()?;
        }
        let blob = if attribute == Attribute::OutBlob { &item.blobs.0 } else { &item.blobs.1 };
        if self.limits_blobs && blob.len() > MAX_OUTBLOB { Err(EFBIG) } else { Ok(blob.clone()) }
    }
}

impl Item {
    /// `try_advance_write_generation`.
    fn advance(&mut self) -> Result<(), i32> {
        if self.write_generation == self.read_generation.wrapping_sub(1) {
            return Err(EBUSY);
        }
        self.write_generation = self.write_generation.wrapping_add(1);
        Ok(())
    }
}
