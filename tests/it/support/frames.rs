//! Reads along what a client sends to its broker, and keeps its acks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// The protocol header, before the first frame.
const HEADER: usize = 8;

/// Before a frame's payload: its type, its channel, its length. Behind it there is one byte more.
const BEFORE: usize = 7;

/// `basic.ack` as a frame of the type 1 begins: class 60, method 80.
const ACK: [u8; 4] = [0, 60, 0, 80];

/// An ack, as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentAck {
    pub(crate) channel: u16,
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

/// All acks, of all connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acks(Arc<Mutex<Vec<SentAck>>>);

impl Acks {
    pub(crate) fn all(&self) -> Vec<SentAck> {
        self.0.lock().unwrap().clone()
    }

    /// How many were sent on each channel, alone and `multiple`.
    pub(crate) fn by_channel(&self) -> HashMap<u16, (usize, usize)> {
        let mut counts: HashMap<_, (usize, usize)> = HashMap::new();
        for ack in self.all() {
            let (alone, multiple) = counts.entry(ack.channel).or_default();
            *if ack.multiple { multiple } else { alone } += 1;
        }
        counts
    }
}

/// Reads one connection.
#[derive(Debug)]
pub(super) struct Reader {
    acks: Acks,
    unread: Vec<u8>,
    skip: usize,
}

impl Reader {
    pub(super) fn new(acks: Acks) -> Self {
        Self { acks, unread: Vec::new(), skip: HEADER }
    }

    /// The next bytes, cut anywhere.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        loop {
            let skipped = self.skip.min(self.unread.len());
            self.unread.drain(..skipped);
            self.skip -= skipped;
            let Some(&[kind, high, low, a, b, c, d]) = self.unread.first_chunk::<BEFORE>() else { return };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(payload) = self.unread.get(BEFORE..BEFORE + length) else { return };
            if kind == 1 && payload.starts_with(&ACK) {
                let tag = u64::from_be_bytes(payload[4..12].try_into().unwrap());
                let channel = u16::from_be_bytes([high, low]);
                self.acks.0.lock().unwrap().push(SentAck { channel, tag, multiple: payload[12] & 1 == 1 });
            }
            self.skip = BEFORE + length + 1;
        }
    }
}
