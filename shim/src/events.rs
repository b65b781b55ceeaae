//! What happens to containers, told to containerd: in order, each once, kept while containerd is away.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{
    TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// How often containerd may refuse an event before it is dropped.
const REFUSALS: u32 = 5;
/// How many events are kept: then the oldest go, so that a shim does not grow with the time that containerd is away.
const MOST: usize = 8192;

/// An event that is published.
pub(crate) trait Event: Message {
    /// Its topic.
    const TOPIC: &'static str;
    /// The message's full name. Asked of the message itself, all of protobuf's reflection would come to life: half a
    /// megabyte of heap.
    const FULL_NAME: &'static str;
}

macro_rules! topics {
    ($($event:ident => $topic:ident),* $(,)?) => { $(impl Event for $event {
        const TOPIC: &'static str = topics::$topic;
        const FULL_NAME: &'static str = concat!("containerd.events.", stringify!($event));
    })* };
}
topics! {
    TaskCreate => TASK_CREATE_EVENT_TOPIC,
    TaskStart => TASK_START_EVENT_TOPIC,
    TaskExit => TASK_EXIT_EVENT_TOPIC,
    TaskDelete => TASK_DELETE_EVENT_TOPIC,
    TaskOOM => TASK_OOM_EVENT_TOPIC,
    TaskExecAdded => TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted => TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskPaused => TASK_PAUSED_EVENT_TOPIC,
    TaskResumed => TASK_RESUMED_EVENT_TOPIC,
    TaskCheckpointed => TASK_CHECKPOINTED_EVENT_TOPIC,
}

/// The queue, and who empties it.
#[derive(Clone)]
pub(crate) struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: String,
    /// containerd's ttrpc socket; none, and nothing is kept.
    address: Option<String>,
    queue: Mutex<VecDeque<Envelope>>,
    more: Notify,
    empty: Notify,
}

impl Events {
    /// A queue for containerd at an address, which may be empty.
    pub(crate) fn new(namespace: &str, address: &str) -> Events {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        let shared = Shared {
            namespace: namespace.to_owned(),
            address: (!path.is_empty()).then(|| format!("unix://{path}")),
            queue: Mutex::default(),
            more: Notify::new(),
            empty: Notify::new(),
        };
        Events { shared: Arc::new(shared) }
    }

    /// Puts an event at the end of the queue.
    pub(crate) fn publish<E: Event>(&self, event: &E) {
        if self.shared.address.is_none() {
            return;
        }
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => return log::error!("event {} cannot be written: {error}", E::TOPIC),
        };
        let any = Any { type_url: E::FULL_NAME.to_owned(), value, ..Default::default() };
        let envelope = Envelope {
            timestamp: timestamp(SystemTime::now()),
            namespace: self.shared.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: MessageField::some(any),
            ..Default::default()
        };
        self.shared.with(|queue| {
            if queue.len() == MOST {
                // The first may be on its way.
                queue.remove(1);
                log::warn!("more than {MOST} events wait for containerd: the oldest is dropped");
            }
            queue.push_back(envelope);
        });
        self.shared.more.notify_one();
    }

    /// Sends what is in the queue, for ever.
    pub(crate) async fn run(self) {
        let Some(address) = self.shared.address.clone() else { return };
        let mut client: Option<EventsClient> = None;
        let (mut failures, mut refusals) = (0u32, 0);
        loop {
            let Some(envelope) = self.shared.with(|queue| queue.front().cloned()) else {
                self.shared.empty.notify_waiters();
                self.shared.more.notified().await;
                continue;
            };
            let topic = envelope.topic.clone();
            match attempt(&mut client, &address, envelope).await {
                Ok(()) => (failures, refusals) = (0, 0),
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        log::warn!("containerd does not take event {topic}, which is kept: {error}");
                    }
                    match &error {
                        ttrpc::Error::RpcStatus(_) => refusals += 1,
                        _ => client = None,
                    }
                    if refusals < REFUSALS {
                        sleep(PAUSE.min(Duration::from_millis(100) * failures)).await;
                        continue;
                    }
                    log::error!("containerd has refused event {topic} {REFUSALS} times: {error}");
                    (failures, refusals) = (0, 0);
                }
            }
            self.shared.with(VecDeque::pop_front);
        }
    }

    /// Waits until the queue is empty, at most so long.
    pub(crate) async fn flush(&self, most: Duration) {
        let empty = async {
            loop {
                let emptied = self.shared.empty.notified();
                if self.shared.with(|queue| queue.is_empty()) {
                    return;
                }
                emptied.await;
            }
        };
        if timeout(most, empty).await.is_err() {
            let left = self.shared.with(|queue: &mut VecDeque<_>| queue.len());
            log::warn!("{left} events are lost: containerd has not taken them in {} s", most.as_secs());
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Envelope>) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn attempt(client: &mut Option<EventsClient>, address: &str, envelope: Envelope) -> ttrpc::Result<()> {
    let late = |_| ttrpc::Error::Others("no answer in time".to_owned());
    let connected = match client {
        Some(connected) => connected,
        None => {
            let connection = timeout(ATTEMPT, Client::connect(address)).await.map_err(late)??;
            client.insert(EventsClient::new(connection))
        }
    };
    let request = ForwardRequest { envelope: MessageField::some(envelope), ..Default::default() };
    let context = ttrpc::context::with_duration(ATTEMPT);
    timeout(ATTEMPT, connected.forward(context, &request)).await.map_err(late)??;
    Ok(())
}

/// As the messages have it.
pub(crate) fn timestamp(time: SystemTime) -> MessageField<Timestamp> {
    MessageField::some(time.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::MessageFull;

    #[test]
    fn names_are_the_messages_own() {
        fn same<E: Event + MessageFull>() {
            assert_eq!(E::FULL_NAME, E::descriptor().full_name());
        }
        same::<TaskExit>();
        same::<TaskOOM>();
        same::<TaskExecStarted>();
    }
}
