//! The node's nftables table, replaced as a whole in one transaction when it differs. It must not know what the rules
//! mean; they come as text.
//!
//! Whether the kernel's table is still the one that was applied cannot be read off the text, which nft prints in its own
//! words. So every applied table is sealed: an empty chain in it carries a hash of the text that was applied and one of
//! what nft listed right after. A table without a fitting seal was changed by somebody, or never finished.

mod listing;

use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::insight::Difference;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use listing::Meddled;

/// How long `nft` may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The start of the sealing chain's name.
const SEAL: &str = "seal_";

/// A table of family `inet`. Clones know the same.
#[derive(Clone, Debug)]
pub struct Nftables {
    program: PathBuf,
    table: String,
    /// The hash of a body, and how nft lists the table that holds it: seen whenever the table was as wanted.
    known: Arc<Mutex<Option<(u64, String)>>>,
}

/// Why the table is not as it should be. The old one is still in force.
#[derive(Debug, thiserror::Error)]
pub enum NftablesError {
    /// The program does not start.
    #[error("cannot run {program}: {error}; install nftables (1.0 or later) on the node")]
    Program {
        /// What was to be run.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The program failed.
    #[error(
        "nft could not {action} table inet {table}: {said}; nothing was changed (it needs root and nf_tables in the kernel)"
    )]
    Refused {
        /// What was to be done.
        action: &'static str,
        /// The table.
        table: String,
        /// What nft said.
        said: String,
    },
    /// The program hangs.
    #[error("nft took more than {} s to {action} table inet {table}: see what holds the nftables lock", PATIENCE.as_secs())]
    Slow {
        /// What was to be done.
        action: &'static str,
        /// The table.
        table: String,
    },
}

impl Nftables {
    /// The table of this name, by the `nft` on the path.
    pub fn new(table: &str) -> Self {
        Self { program: "nft".into(), table: table.to_owned(), known: Arc::default() }
    }

    /// The same by another program.
    pub fn with_program(self, program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..self }
    }

    /// Whether the table holds `body`, as it was applied.
    pub async fn is_as_wanted(&self, body: &str) -> Result<bool, NftablesError> {
        let listed = self.list().await?;
        Ok(match &listed {
            None => body.trim().is_empty(),
            Some(text) => {
                let (bare, seal) = unseal(text);
                let fits = !body.trim().is_empty() && seal == Some(seal_name(hash(body), hash(&bare)));
                if fits {
                    self.learn(hash(body), bare);
                }
                fits
            }
        })
    }

    fn learn(&self, body: u64, listing: String) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((body, listing));
    }

    /// What of the table is not as `body` makes it: object by object where it is known how nft lists that body, the table as
    /// a whole where it was never seen.
    pub async fn differences(&self, body: &str) -> Result<Vec<Meddled>, NftablesError> {
        if self.is_as_wanted(body).await? {
            return Ok(Vec::new());
        }
        let whole = |difference, what: &str| Meddled {
            object: "the table".into(),
            difference,
            wanted: None,
            found: None,
            what: what.into(),
        };
        let Some(text) = self.list().await? else {
            return Ok(vec![whole(
                Difference::Missing,
                "who may speak as whom, what leaves the cluster, node ports",
            )]);
        };
        let (bare, _) = unseal(&text);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = known.filter(|(of, _)| *of == hash(body));
        let found = known.map(|(_, listing)| listing::differences(&listing, &bare)).unwrap_or_default();
        Ok(match found.is_empty() {
            true => vec![whole(
                Difference::Changed,
                "it is not the one that was written, or its seal was changed",
            )],
            false => found,
        })
    }

    /// Makes the table hold `body`, which is what stands between its braces; an empty body means no table. Says whether
    /// anything had to be done.
    pub async fn realize(&self, body: &str) -> Result<bool, NftablesError> {
        if self.is_as_wanted(body).await? {
            return Ok(false);
        }
        let wanted = hash(body);
        let table = &self.table;
        // `add` first: deleting what is not there would fail the transaction.
        let mut text = format!("add table inet {table}\ndelete table inet {table}\n");
        if !body.trim().is_empty() {
            text.push_str(&format!("table inet {table} {{\n{body}\n}}\n"));
        }
        self.apply("replace", &text).await?;
        if !body.trim().is_empty()
            && let Some(text) = self.list().await?
        {
            let seal = seal_name(wanted, hash(&text));
            self.learn(wanted, normal(&text));
            self.apply("seal", &format!("add chain inet {table} {seal}\n")).await?;
        }
        Ok(true)
    }

    /// The table as nft prints it, without counters; `None` when there is none.
    async fn list(&self) -> Result<Option<String>, NftablesError> {
        let output = self.run("list", &["--stateless", "list", "table", "inet", &self.table], "").await?;
        if output.status.success() {
            return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("No such file or directory") { Ok(None) } else { Err(self.refused("list", &said)) }
    }

    async fn apply(&self, action: &'static str, text: &str) -> Result<(), NftablesError> {
        let output = self.run(action, &["--file", "-"], text).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.refused(action, &String::from_utf8_lossy(&output.stderr)))
    }

    fn refused(&self, action: &'static str, said: &str) -> NftablesError {
        // nft repeats the whole line under its message; the first lines say it all.
        let said = said.lines().take(4).map(str::trim).collect::<Vec<_>>().join(" | ");
        NftablesError::Refused { action, table: self.table.clone(), said }
    }

    async fn run(&self, action: &'static str, args: &[&str], input: &str) -> Result<Output, NftablesError> {
        let failed = |error| NftablesError::Program { program: self.program.clone(), error };
        let mut child = Command::new(&self.program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take();
        let work = async move {
            if let Some(stdin) = &mut stdin {
                // A program that ends early says why itself.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(output) => output.map_err(failed),
            Err(_) => Err(NftablesError::Slow { action, table: self.table.clone() }),
        }
    }
}

fn seal_name(body: u64, listing: u64) -> String {
    format!("{SEAL}{body:016x}_{listing:016x}")
}

/// The listing without the sealing chain, and that chain's name.
fn unseal(listing: &str) -> (String, Option<String>) {
    let (mut bare, mut seal, mut inside) = (String::new(), None, false);
    for line in listing.lines() {
        let word = line.trim_start().strip_prefix("chain ").and_then(|rest| rest.split(' ').next());
        match word.filter(|name| name.starts_with(SEAL)) {
            // Two seals are nobody's work of ours: none fits then.
            Some(name) => {
                (seal, inside) = (Some(if seal.is_none() { name.to_owned() } else { String::new() }), true)
            }
            None if inside => {
                if line.trim() == "}" {
                    inside = false;
                } else {
                    // Something stands in the sealing chain.
                    seal = Some(String::new());
                }
            }
            None => {
                bare.push_str(line);
                bare.push('\n');
            }
        }
    }
    (normal(&bare), seal)
}

/// Blank lines come and go with the chain beside them.
fn normal(listing: &str) -> String {
    listing.lines().filter(|line| !line.trim().is_empty()).flat_map(|line| [line, "\n"]).collect()
}

/// FNV-1a, 64 bits, over the lines that are not blank: the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    normal(text)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_found_and_a_meddled_one_is_none() {
        let bare = "table inet ferrule {\n\tchain a {\n\t\tdrop\n\t}\n}\n";
        let sealed = "table inet ferrule {\n\tchain a {\n\t\tdrop\n\t}\n\n\tchain seal_0_1 {\n\t}\n}\n";
        assert_eq!(unseal(sealed), (bare.to_owned(), Some("seal_0_1".into())));
        assert_eq!(hash(&unseal(sealed).0), hash(bare));
        assert_eq!(unseal(&sealed.replace("seal_0_1 {\n", "seal_0_1 {\n\t\tdrop\n")).1, Some(String::new()));
        assert_eq!(unseal(bare).1, None);
    }

    #[tokio::test]
    async fn a_missing_program_says_what_to_install() {
        let nft = Nftables::new("ferrule").with_program("/nowhere/nft");
        let error = nft.realize("chain a {}").await.unwrap_err();
        assert!(error.to_string().contains("install nftables"), "{error}");
    }
}
