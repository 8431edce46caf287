//! Whether what the manifests say is in force already. An edit takes its way from the file through the controller to every
//! switch; whoever measures before it has arrived compares the old with the new. Waits; judges nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::insight::{ManifestItem, NodeItem, ProblemItem, sha256};
use objects::SourceText;

use crate::error::{Context, Error, Result};
use crate::http::Endpoint;
use crate::lab::Lab;
use crate::manifests::{self, Problem};

/// How long an edit may be on its way.
const LIMIT: Duration = Duration::from_secs(2);

/// How long an agent that has nothing to answer any more may still be without confirmation.
const REFUSED: Duration = Duration::from_millis(300);

/// How often to look.
const STEP: Duration = Duration::from_millis(5);

/// What is in force.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// The manifests of the user and of the lab.
    pub texts: Vec<SourceText>,
    /// Files that cannot be read at all.
    pub problems: Vec<Problem>,
    /// The controller said so; otherwise these are the files as they stand there.
    pub is_sure: bool,
    /// What a reader of a measurement should know.
    pub remarks: Vec<String>,
}

impl Lab {
    /// Waits until the manifests as they are now are in force on every node, but not for long; whether they are.
    pub fn is_in_force(&self) -> Result<bool> {
        let in_force = self.in_force()?;
        Ok(in_force.is_sure && in_force.remarks.is_empty())
    }

    /// Waits until the controller holds the manifests as they are and every connected agent has confirmed them. Where the
    /// controller keeps an older text of a file (the present one is half-written), that one counts, if it is known here.
    pub(crate) fn in_force(&self) -> Result<InForce> {
        let controller = Endpoint::Unix(self.layout.controller_socket());
        let began = Instant::now();
        loop {
            let (mut texts, problems) = self.texts()?;
            let Ok(held) = controller.list::<ManifestItem>("manifests", &[]) else {
                let away =
                    "the controller does not answer: what was edited since may not be in force".to_owned();
                return Ok(InForce { texts, problems, is_sure: false, remarks: vec![away] });
            };
            let held: BTreeMap<String, String> =
                held.items.into_iter().map(|item| (item.file, item.sha256)).collect();
            let late = late(&texts, &problems, &held);
            let nodes = controller.list::<NodeItem>("nodes", &[])?.items;
            let behind: Vec<_> = nodes.iter().filter(|node| node.connected && !node.realized).collect();
            self.interrupt.check()?;
            // Where nothing is under way, something was refused: that does not pass by waiting.
            let under_way = !late.is_empty() || behind.iter().any(|node| node.pending > 0);
            if !(late.is_empty() && behind.is_empty())
                && began.elapsed() < if under_way { LIMIT } else { REFUSED }
            {
                std::thread::sleep(STEP);
                continue;
            }
            let mut remarks: Vec<_> = behind
                .iter()
                .map(|node| format!("{} has not confirmed all that it should hold", node.name))
                .collect();
            if late.is_empty() {
                remember(&self.layout.texts_in_force(), &texts)?;
            } else {
                let known = recall(&self.layout.texts_in_force());
                for file in late {
                    let why = why(&controller, &file);
                    match (held.get(&file), known.get(&file)) {
                        // The controller has dropped what is gone or new and unreadable.
                        (None, _) if !Path::new(&file).exists() => {}
                        (Some(sum), Some(text)) if *sum == sha256(text) => {
                            remarks.push(format!("{file} is used as it was before: {why}"));
                            texts.retain(|text| text.name != file);
                            texts.push(SourceText::new(file, text.clone()));
                        }
                        _ => return Err(Error::NotInForce { file: PathBuf::from(file), why }),
                    }
                }
                texts.sort_by(|a, b| a.name.cmp(&b.name));
            }
            return Ok(InForce { texts, problems, is_sure: true, remarks });
        }
    }

    fn texts(&self) -> Result<(Vec<SourceText>, Vec<Problem>)> {
        let (mut texts, mut problems) = manifests::texts(&self.record.manifests)?;
        let (own, more) = manifests::texts(&self.layout.node_manifests())?;
        texts.extend(own);
        problems.extend(more);
        Ok((texts, problems))
    }
}

/// The files of which the controller holds something else than stands there now.
fn late(texts: &[SourceText], problems: &[Problem], held: &BTreeMap<String, String>) -> Vec<String> {
    let mut late: Vec<String> = texts
        .iter()
        .filter(|text| held.get(&text.name) != Some(&sha256(&text.text)))
        .map(|text| text.name.clone())
        .collect();
    let is_there = |file: &String| {
        texts.iter().any(|text| text.name == *file) || problems.iter().any(|problem| problem.source == *file)
    };
    late.extend(held.keys().filter(|file| !is_there(file)).cloned());
    // Not readable now; what it held before may still be in force.
    late.extend(problems.iter().map(|problem| problem.source.clone()).filter(|file| held.contains_key(file)));
    late
}

/// What the controller says of a file.
fn why(controller: &Endpoint, file: &str) -> String {
    let said = controller.list::<ProblemItem>("problems", &[]).map(|list| list.items).unwrap_or_default();
    said.into_iter()
        .find(|problem| problem.object == file)
        .map_or_else(|| "the controller has not read it yet".to_owned(), |problem| problem.message)
}

/// For later commands. Manifests may hold secrets: nobody else may read it.
fn remember(path: &Path, texts: &[SourceText]) -> Result<()> {
    let texts: BTreeMap<&str, &str> =
        texts.iter().map(|text| (text.name.as_str(), text.text.as_str())).collect();
    let texts = serde_json::to_vec(&texts).context(|| "describe the manifests".to_owned())?;
    if std::fs::read(path).is_ok_and(|old| old == texts) {
        return Ok(());
    }
    crate::daemons::write_secret(path, &texts)
}

fn recall(path: &Path) -> BTreeMap<String, String> {
    // Not there or damaged: then nothing is known.
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_new_removed_and_unreadable_files_are_late_until_the_controller_has_them() {
        let texts = [SourceText::new("/m/a.yaml", "a"), SourceText::new("/m/b.yaml", "b")];
        let unreadable = |file: &str| Problem {
            object: String::new(),
            source: file.to_owned(),
            message: String::new(),
            is_warning: false,
        };
        let held = |files: &[(&str, &str)]| {
            files.iter().map(|(file, text)| ((*file).to_owned(), sha256(text))).collect::<BTreeMap<_, _>>()
        };
        let both = held(&[("/m/a.yaml", "a"), ("/m/b.yaml", "b")]);
        assert!(late(&texts, &[], &both).is_empty());
        assert!(late(&texts, &[unreadable("/m/c.yaml")], &both).is_empty(), "it was never in force");
        assert_eq!(late(&texts, &[], &held(&[("/m/a.yaml", "old"), ("/m/b.yaml", "b")])), ["/m/a.yaml"]);
        assert_eq!(late(&texts, &[], &held(&[("/m/a.yaml", "a")])), ["/m/b.yaml"]);
        assert_eq!(late(&texts[..1], &[], &both), ["/m/b.yaml"]);
        assert_eq!(late(&texts[..1], &[unreadable("/m/b.yaml")], &both), ["/m/b.yaml"]);
    }

    #[test]
    fn what_was_in_force_is_remembered_for_root_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in-force.json");
        assert!(recall(&path).is_empty());
        remember(&path, &[SourceText::new("a", "text")]).unwrap();
        remember(&path, &[SourceText::new("a", "later")]).unwrap();
        assert_eq!(recall(&path)["a"], "later");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }
}
