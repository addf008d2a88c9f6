//! How many messages wait in the queues: asked of the broker every few seconds, and shown for as long as the answers come.
//!
//! A channel of its own, for the moment of asking: one that is there makes every frame of its connection slower, and a queue
//! that is gone closes the channel that asks for it.

use std::{convert::Infallible, time::Duration};

use lapin::{Channel, Connection, options::QueueDeclareOptions, types::FieldTable};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::topology::Names;
use crate::{policy::wait::Tier, telemetry::metrics::Metrics};

/// How often it is asked. A passive declaration is answered by the queue's leader and costs it next to nothing.
const PERIOD: Duration = Duration::from_secs(5);

/// What the names of delay queues are shown without, and with instead.
const LABEL: (&str, &str) = (".", "_");

/// A queue that is asked for.
struct Asked {
    label: String,
    name: String,
    /// Whether this process consumes from it.
    is_consumed: bool,
}

/// Asks for as long as this future lives; what was answered is forgotten with it.
pub(super) async fn watch(connection: &Connection, names: &Names, metrics: &Metrics) -> Infallible {
    let asked = Known { queues: queues(names), metrics };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if timeout(PERIOD, asked.ask(connection)).await.is_err() {
            asked.forget();
        }
    }
}

fn queues(names: &Names) -> Vec<Asked> {
    let asked =
        |label: &str, name: &str, is_consumed| Asked { label: label.to_owned(), name: name.to_owned(), is_consumed };
    let delays = Tier::all().map(|tier| {
        let label = names.delay_key(tier).replace(LABEL.0, LABEL.1);
        Asked { label, name: names.delay_queue(tier), is_consumed: false }
    });
    [
        asked("events", &names.events_queue, true),
        asked("due", &names.due_queue, true),
        asked("dead", &names.dead_queue, false),
    ]
    .into_iter()
    .chain(delays)
    .collect()
}

/// What is shown. Dropped, nothing is.
struct Known<'a> {
    queues: Vec<Asked>,
    metrics: &'a Metrics,
}

impl Known<'_> {
    async fn ask(&self, connection: &Connection) {
        let mut channel: Option<Channel> = None;
        for queue in &self.queues {
            let open = match channel.take().filter(|open| open.status().connected()) {
                Some(open) => Some(open),
                None => connection.create_channel().await.ok(),
            };
            let messages = match &open {
                Some(open) => messages(open, queue).await,
                None => None,
            };
            self.metrics.queue_holds(&queue.label, messages);
            channel = open;
        }
        if let Some(open) = channel.filter(|open| open.status().connected())
            && let Err(error) = open.close(200, "done".into()).await
        {
            tracing::debug!(%error, "Closing a channel failed");
        }
    }

    fn forget(&self) {
        self.queues.iter().for_each(|queue| self.metrics.queue_holds(&queue.label, None));
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// How many messages are ready; `None` when the broker does not say. A quorum queue whose leader does not answer the broker
/// has none and no consumers, if one believes it: where there must be one, that is no answer.
async fn messages(channel: &Channel, queue: &Asked) -> Option<u32> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.name.as_str().into(), passive, FieldTable::default()).await.ok()?;
    let is_answer = !queue.is_consumed || declared.consumer_count() > 0 || declared.message_count() > 0;
    is_answer.then(|| declared.message_count())
}
