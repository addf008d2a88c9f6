//! Spans that were told and are not sent yet. Bounded: what finds no room is counted and forgotten.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::Notify;

/// Spans in batches.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// How many spans it holds at most.
    most: usize,
    /// How many are sent together.
    batch: usize,
    is_batch: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    full: VecDeque<Vec<SpanData>>,
    filling: Vec<SpanData>,
}

impl Queue {
    pub(super) fn new(most: usize, batch: usize) -> Self {
        let batch = batch.clamp(1, most.max(1));
        Self { inner: Mutex::default(), most, batch, is_batch: Notify::new(), dropped: AtomicU64::new(0) }
    }

    /// Keeps a span until it is taken.
    pub(super) fn push(&self, span: SpanData) {
        let is_batch = {
            let mut inner = self.lock();
            if inner.full.len() * self.batch + inner.filling.len() >= self.most {
                drop(inner);
                self.drop_spans(1);
                return;
            }
            inner.filling.push(span);
            let is_batch = inner.filling.len() >= self.batch;
            if is_batch {
                let batch = std::mem::replace(&mut inner.filling, Vec::with_capacity(self.batch));
                inner.full.push_back(batch);
            }
            is_batch
        };
        if is_batch {
            self.is_batch.notify_one();
        }
    }

    /// The next batch, if there is a full one; with `any` also one that is not.
    pub(super) fn take(&self, any: bool) -> Option<Vec<SpanData>> {
        let mut inner = self.lock();
        let full = inner.full.pop_front();
        full.or_else(|| any.then(|| std::mem::take(&mut inner.filling)).filter(|batch| !batch.is_empty()))
    }

    /// How many batches it would take to send what is here now: the last of them may not be full.
    pub(super) fn batches(&self) -> usize {
        let inner = self.lock();
        inner.full.len() + usize::from(!inner.filling.is_empty())
    }

    /// Waits until a batch is full.
    pub(super) async fn is_batch(&self) {
        self.is_batch.notified().await;
    }

    /// Everything that is here is lost.
    pub(super) fn drop_all(&self) {
        while let Some(batch) = self.take(true) {
            self.drop_spans(batch.len());
        }
    }

    /// Spans that are lost.
    pub(super) fn drop_spans(&self, count: usize) {
        self.dropped.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
