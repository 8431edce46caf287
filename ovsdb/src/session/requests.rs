//! The requests that a session can make (RFC 7047 §4.1, ovsdb-server(7) §4.1); must not know what the replies mean.

use std::sync::Arc;

use serde_json::json;

use super::replies::Pending;
use super::{MonitorId, MonitorMethod, RequestId, Session};
use crate::atom::Uuid;
use crate::message;
use crate::monitor::Monitored;
use crate::schema::DatabaseSchema;
use crate::transaction::{Condition, InvalidOperation, Transaction};

impl Session {
    /// `list_dbs` (RFC 7047 §4.1.1): answered by `Reply::Databases`.
    pub fn list_dbs(&mut self) -> RequestId {
        self.request("list_dbs", &json!([]), Pending::ListDbs)
    }

    /// `get_schema` (RFC 7047 §4.1.2): answered by `Reply::Schema`.
    pub fn get_schema(&mut self, database: &str) -> RequestId {
        self.request("get_schema", &json!([database]), Pending::GetSchema { database: database.to_owned() })
    }

    /// `transact` (RFC 7047 §4.1.3): answered by `Event::Transaction`. Refused at once, unsent, if the schema cannot
    /// hold it.
    pub fn transact(
        &mut self,
        transaction: Arc<Transaction>,
        schema: &Arc<DatabaseSchema>,
    ) -> Result<RequestId, InvalidOperation> {
        let params = transaction.to_json(schema)?;
        Ok(self.request("transact", &params, Pending::Transact { transaction, schema: Arc::clone(schema) }))
    }

    /// `cancel` (RFC 7047 §4.1.4): the transaction is answered early, by its outcome or `TransactError::Canceled`.
    pub fn cancel(&mut self, request: RequestId) {
        self.send(message::notification("cancel", &json!([request.0])));
    }

    /// Monitors in the best way that the server knows (ovsdb-server(7) §4.1.15, §4.1.12, RFC 7047 §4.1.5): answered by
    /// `Reply::Monitoring`, followed by `Event::Update`.
    ///
    /// With `since`, a server that remembers that transaction sends only what came after it. A method that the server
    /// does not know is retried with the next without being seen from outside; the request keeps its id.
    pub fn monitor(&mut self, monitored: Arc<Monitored>, since: Option<Uuid>) -> RequestId {
        self.monitor_by(MonitorMethod::ConditionalSince, monitored, since)
    }

    /// Like [`Session::monitor`], beginning with the given method.
    pub fn monitor_by(
        &mut self,
        method: MonitorMethod,
        monitored: Arc<Monitored>,
        since: Option<Uuid>,
    ) -> RequestId {
        let monitor = MonitorId(self.next_id);
        self.monitors.insert(monitor.0, Arc::clone(&monitored));
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.send_monitor(id, Pending::Monitor { monitor, method, monitored, since });
        id
    }

    /// Sends the monitor request that `pending` stands for under an id that is already given.
    pub(super) fn send_monitor(&mut self, id: RequestId, pending: Pending) {
        if let Pending::Monitor { monitor, method, monitored, since } = &pending {
            let (database, monitor) = (&monitored.database, monitor.0);
            let requests = monitored.to_json(*method != MonitorMethod::Plain);
            let params = match method {
                MonitorMethod::ConditionalSince => {
                    json!([database, monitor, requests, since.unwrap_or(Uuid::ZERO).to_string()])
                }
                MonitorMethod::Conditional | MonitorMethod::Plain => json!([database, monitor, requests]),
            };
            self.send(message::request(pending.method(), &params, id.0));
            self.pending.insert(id.0, pending);
        }
    }

    /// `monitor_cond_change` (ovsdb-server(7) §4.1.13): other conditions for one table of a monitor; none for all rows.
    /// Answered by `Reply::ConditionsChanged`, after the updates that it causes.
    pub fn change_conditions(
        &mut self,
        monitor: MonitorId,
        table: &str,
        conditions: &[Condition],
    ) -> RequestId {
        let conditions: Vec<_> = match conditions {
            // An empty list would leave them unchanged in some versions; `true` is every row.
            [] => vec![json!(true)],
            conditions => conditions.iter().map(Condition::to_json).collect(),
        };
        let params = json!([monitor.0, monitor.0, {table: [{"where": conditions}]}]);
        self.request("monitor_cond_change", &params, Pending::ChangeConditions { monitor })
    }

    /// `monitor_cancel` (RFC 7047 §4.1.7): answered by `Reply::MonitorCanceled`.
    pub fn monitor_cancel(&mut self, monitor: MonitorId) -> RequestId {
        self.request("monitor_cancel", &json!([monitor.0]), Pending::MonitorCancel { monitor })
    }

    /// `lock` (RFC 7047 §4.1.8): answered by `Reply::Lock`, and if it is not free now by `Event::Locked` later.
    pub fn lock(&mut self, lock: &str) -> RequestId {
        self.request("lock", &json!([lock]), Pending::Lock { lock: lock.to_owned(), steal: false })
    }

    /// `steal` (RFC 7047 §4.1.8): the lock is ours at once; who had it is told.
    pub fn steal(&mut self, lock: &str) -> RequestId {
        self.request("steal", &json!([lock]), Pending::Lock { lock: lock.to_owned(), steal: true })
    }

    /// `unlock` (RFC 7047 §4.1.8): gives a lock back, or leaves its queue; answered by `Reply::Unlocked`.
    pub fn unlock(&mut self, lock: &str) -> RequestId {
        self.request("unlock", &json!([lock]), Pending::Unlock { lock: lock.to_owned() })
    }

    /// `echo` (RFC 7047 §4.1.11): answered by `Reply::Echoed`. The session probes an idle peer by itself.
    pub fn echo(&mut self) -> RequestId {
        self.request("echo", &json!([]), Pending::Echo)
    }

    /// `set_db_change_aware` (ovsdb-server(7) §4.1.18): the server tells of changes instead of hanging up.
    pub fn set_db_change_aware(&mut self, aware: bool) -> RequestId {
        self.request("set_db_change_aware", &json!([aware]), Pending::ChangeAware)
    }

    /// `get_server_id` (ovsdb-server(7) §4.1.17): answered by `Reply::ServerId`, new with each start of the server.
    pub fn server_id(&mut self) -> RequestId {
        self.request("get_server_id", &json!([]), Pending::ServerId)
    }
}
