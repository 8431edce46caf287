//! Starting, stopping and crashing single components of a lab, as a user or a test asks for it.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::daemons;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::layout::{NodeIndex, controller_name};
use crate::process::Process;
use crate::switch;

/// What can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// A node's database.
    OvsdbServer,
    /// A node's switch.
    OvsVswitchd,
    /// A node's agent.
    Agent,
    /// The controller, or the first of two.
    Controller,
    /// The second controller, of a lab that has two.
    SecondController,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OvsdbServer, Self::OvsVswitchd, Self::Agent, Self::Controller, Self::SecondController];
}

impl Component {
    /// Whether it is of the lab and not of a node.
    pub fn is_controller(self) -> bool {
        matches!(self, Self::Controller | Self::SecondController)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OvsdbServer => "ovsdb-server",
            Self::OvsVswitchd => "ovs-vswitchd",
            Self::Agent => "agent",
            Self::Controller => "controller",
            Self::SecondController => "controller-2",
        })
    }
}

impl FromStr for Component {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = || Self::ALL.map(|component| component.to_string()).join(", ");
        let plain = text.strip_prefix("ferrule-").unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|component| component.to_string() == plain)
            .ok_or_else(|| Error::UnknownComponent { name: text.to_owned(), known: known() })
    }
}

impl Lab {
    /// The process of a component, if it was started.
    pub fn process(&self, node: NodeIndex, component: Component) -> Option<Process> {
        Process::find(&self.layout, &process_name(node, component))
    }

    /// Ends a component with this signal; one that does not run is fine.
    pub fn stop(&self, node: NodeIndex, component: Component, signal: Signal) -> Result<()> {
        match self.process(node, component) {
            Some(process) => process.end(&self.layout, signal),
            None => Ok(()),
        }
    }

    /// Sends a signal to a component and waits for nothing (SIGSTOP and SIGCONT, for example).
    pub fn signal(&self, node: NodeIndex, component: Component, signal: Signal) -> Result<()> {
        match self.process(node, component) {
            Some(process) if process.is_alive() => process.signal(signal),
            _ => Err(Error::Command {
                what: format!("signalling {component} of {}", node.name()),
                said: format!("it does not run: `ferrule lab start {} {component}`", node.name()),
            }),
        }
    }

    /// Starts a component and waits until it listens; one that runs is left alone.
    pub fn start(&self, node: NodeIndex, component: Component) -> Result<()> {
        if self.process(node, component).is_some_and(|process| process.is_alive()) {
            return Ok(());
        }
        let (layout, record, interrupt) = (&self.layout, &self.record, &self.interrupt);
        match component {
            Component::OvsdbServer => switch::start_ovsdb_server(layout, node, interrupt),
            Component::OvsVswitchd => switch::start_vswitchd(layout, record, node, interrupt),
            Component::Agent => daemons::start_agent(layout, record, node, interrupt),
            Component::Controller => daemons::start_controller(layout, record, 1, interrupt),
            Component::SecondController => daemons::start_controller(layout, record, 2, interrupt),
        }
    }

    /// Ends a component as a crash would (or with another signal) and starts it anew.
    pub fn restart(&self, node: NodeIndex, component: Component, signal: Signal) -> Result<()> {
        self.stop(node, component, signal)?;
        self.start(node, component)
    }
}

fn process_name(node: NodeIndex, component: Component) -> String {
    match component {
        Component::Controller => controller_name(1),
        Component::SecondController => controller_name(2),
        Component::Agent => daemons::agent_name(node),
        Component::OvsdbServer | Component::OvsVswitchd => format!("{}.{component}", node.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_read_back_and_others_are_listed() {
        for component in Component::ALL {
            assert_eq!(component.to_string().parse::<Component>().unwrap(), component);
        }
        let error = "kubelet".parse::<Component>().unwrap_err().to_string();
        assert!(error.contains("ovs-vswitchd, agent, controller"), "{error}");
    }
}
