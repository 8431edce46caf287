//! What the reply to each kind of request means (RFC 7047 §4.1); must not make requests of its own, but for the
//! fallback of a monitor.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{
    Event, MonitorId, MonitorMethod, Monitoring, Refused, Reply, RequestId, Session, SessionError,
    known_transaction,
};
use crate::atom::Uuid;
use crate::datum::beginning;
use crate::monitor::{Monitored, Updates};
use crate::outcome::{ServerError, outcome};
use crate::schema::DatabaseSchema;
use crate::transaction::Transaction;

/// A request that waits for its reply, with what is needed to read that.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    /// The session's own `echo`.
    Probe,
    Echo,
    ListDbs,
    GetSchema {
        database: String,
    },
    Transact {
        transaction: Arc<Transaction>,
        schema: Arc<DatabaseSchema>,
    },
    Monitor {
        monitor: MonitorId,
        method: MonitorMethod,
        monitored: Arc<Monitored>,
        since: Option<Uuid>,
    },
    ChangeConditions {
        monitor: MonitorId,
    },
    MonitorCancel {
        monitor: MonitorId,
    },
    Lock {
        lock: String,
        steal: bool,
    },
    Unlock {
        lock: String,
    },
    ChangeAware,
    ServerId,
}

impl Pending {
    /// The request's method.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Probe | Self::Echo => "echo",
            Self::ListDbs => "list_dbs",
            Self::GetSchema { .. } => "get_schema",
            Self::Transact { .. } => "transact",
            Self::Monitor { method: MonitorMethod::ConditionalSince, .. } => "monitor_cond_since",
            Self::Monitor { method: MonitorMethod::Conditional, .. } => "monitor_cond",
            Self::Monitor { method: MonitorMethod::Plain, .. } => "monitor",
            Self::ChangeConditions { .. } => "monitor_cond_change",
            Self::MonitorCancel { .. } => "monitor_cancel",
            Self::Lock { steal: false, .. } => "lock",
            Self::Lock { steal: true, .. } => "steal",
            Self::Unlock { .. } => "unlock",
            Self::ChangeAware => "set_db_change_aware",
            Self::ServerId => "get_server_id",
        }
    }

    /// What it was about, for an error.
    fn object(&self) -> String {
        match self {
            Self::GetSchema { database } => format!("of database {database}"),
            Self::Transact { schema, .. } => format!("on database {}", schema.name),
            Self::Monitor { monitored, .. } => format!("of database {}", monitored.database),
            Self::ChangeConditions { monitor } | Self::MonitorCancel { monitor } => {
                format!("of monitor {}", monitor.0)
            }
            Self::Lock { lock, .. } | Self::Unlock { lock } => format!("of lock {lock}"),
            Self::Probe | Self::Echo | Self::ListDbs | Self::ChangeAware | Self::ServerId => String::new(),
        }
    }
}

impl Session {
    pub(super) fn handle_reply(
        &mut self,
        request: RequestId,
        pending: Pending,
        result: Result<Json, Json>,
    ) -> Result<(), SessionError> {
        let event = match (pending, result) {
            // An answer is a sign of life, whatever it says.
            (Pending::Probe, _) => return Ok(()),
            (Pending::Transact { transaction, schema }, result) => {
                Event::Transaction { request, outcome: outcome(&transaction, &schema, result) }
            }
            (pending, Ok(result)) => {
                let reply = self.read_result(&pending, &result)?;
                Event::Reply { request, reply: Ok(reply) }
            }
            (pending, Err(error)) => {
                let error = ServerError::from_json(&error);
                if let Pending::Monitor { monitor, method, monitored, since } = &pending {
                    if let Some(method) = fallback(*method, &error) {
                        let (monitor, monitored, since) = (*monitor, Arc::clone(monitored), *since);
                        self.send_monitor(request, Pending::Monitor { monitor, method, monitored, since });
                        return Ok(());
                    }
                    self.monitors.remove(&monitor.0);
                }
                let refused = Refused { method: pending.method(), object: pending.object(), error };
                Event::Reply { request, reply: Err(refused) }
            }
        };
        self.events.push_back(event);
        Ok(())
    }

    fn read_result(&mut self, pending: &Pending, result: &Json) -> Result<Reply, SessionError> {
        let malformed = |problem: &str| SessionError::MalformedReply {
            method: pending.method(),
            problem: format!("{problem} in {}", beginning(result)),
        };
        Ok(match pending {
            Pending::Probe | Pending::Echo => Reply::Echoed,
            Pending::ListDbs => {
                let names = result.as_array().ok_or_else(|| malformed("no array"))?;
                let names: Option<Vec<String>> =
                    names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                Reply::Databases(names.ok_or_else(|| malformed("not only names"))?)
            }
            Pending::GetSchema { database } => {
                let schema = DatabaseSchema::from_json(result)?;
                if schema.name != *database {
                    return Err(malformed("the schema of another database"));
                }
                Reply::Schema(Arc::new(schema))
            }
            Pending::Monitor { monitor, method, monitored, .. } => {
                Reply::Monitoring(read_monitoring(*monitor, *method, monitored, result, malformed)?)
            }
            Pending::MonitorCancel { monitor } => {
                self.monitors.remove(&monitor.0);
                Reply::MonitorCanceled
            }
            Pending::ChangeConditions { .. } => Reply::ConditionsChanged,
            Pending::Lock { steal, .. } => {
                let held = result.get("locked").and_then(Json::as_bool);
                match (held, steal) {
                    (Some(held), _) => Reply::Lock { held },
                    // RFC 7047 §4.1.8 lets the reply to a steal be empty.
                    (None, true) => Reply::Lock { held: true },
                    (None, false) => return Err(malformed("no \"locked\"")),
                }
            }
            Pending::Unlock { .. } => Reply::Unlocked,
            Pending::ChangeAware => Reply::ChangeAware,
            Pending::ServerId => {
                let id = result.as_str().and_then(|text| text.parse().ok());
                Reply::ServerId(id.ok_or_else(|| malformed("no UUID"))?)
            }
            // Its result is read by `outcome`.
            Pending::Transact { .. } => return Err(malformed("a transaction")),
        })
    }
}

/// The method to try after `method` was refused as unknown.
fn fallback(method: MonitorMethod, error: &ServerError) -> Option<MonitorMethod> {
    let unknown = error.error == "unknown method" || error.details.contains("unknown method");
    match method {
        _ if !unknown => None,
        MonitorMethod::ConditionalSince => Some(MonitorMethod::Conditional),
        MonitorMethod::Conditional => Some(MonitorMethod::Plain),
        MonitorMethod::Plain => None,
    }
}

fn read_monitoring(
    monitor: MonitorId,
    method: MonitorMethod,
    monitored: &Monitored,
    result: &Json,
    malformed: impl Fn(&str) -> SessionError,
) -> Result<Monitoring, SessionError> {
    let whole = |updates| Monitoring { monitor, method, continues: false, last_transaction: None, updates };
    match method {
        MonitorMethod::Plain => Ok(whole(Updates::from_json(result, monitored)?)),
        MonitorMethod::Conditional => Ok(whole(Updates::from_json2(result, monitored)?)),
        MonitorMethod::ConditionalSince => match result.as_array().map(Vec::as_slice) {
            Some([Json::Bool(found), Json::String(last), updates]) => {
                let last: Uuid = last.parse().map_err(|_| malformed("no transaction id"))?;
                let updates = Updates::from_json2(updates, monitored)?;
                let last_transaction = known_transaction(last);
                Ok(Monitoring { monitor, method, continues: *found, last_transaction, updates })
            }
            _ => Err(malformed("not [found, last transaction, updates]")),
        },
    }
}
