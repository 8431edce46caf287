//! `ferrule bundle`: one file with what a controller and its agents say, on which other commands work later and elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::insight::{List, PodItem};
use clap::Args;
use lab::bundle::{Bundle, without_secrets};
use lab::http::Endpoint;
use serde_json::Value;

use crate::arguments::EndpointArguments;
use crate::fail::{Fail, Outcome};
use crate::get::endpoint;
use crate::paint::Paint;

/// What is asked, each with its query. Whatever answers with a list belongs here.
const RESOURCES: [(&str, &[(&str, &str)]); 15] = [
    ("network", &[]),
    ("nodes", &[]),
    ("pods", &[]),
    ("policies", &[("rules", "true")]),
    ("problems", &[]),
    ("manifests", &[]),
    ("switches", &[]),
    ("ports", &[]),
    ("tunnels", &[]),
    ("flows", &[]),
    ("drops", &[]),
    ("rules", &[]),
    ("services", &[]),
    ("costs", &[]),
    ("audit", &[]),
];

/// Resources that can be asked for one pod.
const ABOUT_PODS: [&str; 2] = ["flows", "drops"];

/// Pods for which that is asked, at most: one question each.
const MOST_PODS: usize = 2_000;

/// The end of a log that is taken, in bytes.
const LOG_BYTES: u64 = 1 << 20;

/// Keep what a controller and its agents say in one file, on which `get`, `explain` and `plan` work later
#[derive(Debug, Args)]
pub struct Options {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Directories whose *.log files belong to it; their secrets are removed [default: the lab's, when one is up]
    #[arg(long, value_name = "DIR")]
    pub logs: Vec<PathBuf>,

    #[command(flatten)]
    pub endpoint: EndpointArguments,
}

pub fn run(options: &Options) -> Result<Outcome, Fail> {
    let asked = endpoint(&options.endpoint);
    let mut bundle = Bundle::new(versions());
    let mut missing = Vec::new();
    for (resource, query) in RESOURCES {
        match asked.list::<Value>(resource, query) {
            Ok(list) => {
                missing.extend(list.warnings.iter().map(|warning| format!("{resource}: {warning}")));
                let answer = serde_json::to_value(&list).map_err(|error| error.to_string())?;
                bundle.answers.insert(resource.to_owned(), answer);
            }
            // Without the model there is nothing to work on; a part less is still worth having.
            Err(error) if resource == "network" => return Err(error.into()),
            Err(error) => missing.push(format!("{resource}: {error}")),
        }
    }
    missing.extend(about_pods(&asked, &mut bundle)?);
    for directory in log_directories(options) {
        missing.extend(take_logs(&directory, &mut bundle));
    }
    let bytes = serde_json::to_vec(&bundle).map_err(|error| error.to_string())?;
    write(&options.file, &bytes)?;
    println!(
        "{}: {} answers, {} logs, {} bytes",
        options.file.display(),
        bundle.answers.len(),
        bundle.logs.len(),
        bytes.len()
    );
    let paint = Paint::stderr();
    missing.iter().for_each(|it| eprintln!("{} not in the bundle: {it}", paint.warning("warning:")));
    Ok(if missing.is_empty() { Outcome::Expected } else { Outcome::Failed })
}

/// For every pod the items that are about it; what could not be asked.
fn about_pods(asked: &Endpoint, bundle: &mut Bundle) -> Result<Vec<String>, Fail> {
    let pods: List<PodItem> = asked.list("pods", &[])?;
    let mut missing = Vec::new();
    if pods.items.len() > MOST_PODS {
        missing.push(format!("flows by pod for more than {MOST_PODS} of {} pods", pods.items.len()));
    }
    for resource in ABOUT_PODS {
        let Some(all) = bundle.answers.get(resource).and_then(|it| it.get("items")?.as_array()) else {
            continue;
        };
        // Counters may move between two questions: an item is known by the rest.
        let places: BTreeMap<String, usize> = all.iter().map(identity).zip(0..).collect();
        let mut found = BTreeMap::new();
        for pod in pods.items.iter().filter(|pod| !pod.host_network).take(MOST_PODS) {
            let name = pod.pod.to_string();
            match asked.list::<Value>(resource, &[("pod", &name)]) {
                Ok(list) => {
                    let about = list.items.iter().filter_map(|item| places.get(&identity(item)).copied());
                    found.insert(name, about.collect());
                }
                Err(error) => missing.push(format!("{resource} of {name}: {error}")),
            }
        }
        bundle.about_pods.insert(resource.to_owned(), found);
    }
    Ok(missing)
}

fn identity(item: &Value) -> String {
    let mut item = item.clone();
    if let Value::Object(fields) = &mut item {
        fields.retain(|name, _| !["packets", "bytes", "last"].contains(&name.as_str()));
    }
    item.to_string()
}

fn versions() -> BTreeMap<String, String> {
    let file = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let kernel = file("/proc/sys/kernel/osrelease").map(|release| ("kernel".to_owned(), release));
    let own = ("ferrule".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    std::iter::once(own).chain(kernel).collect()
}

fn log_directories(options: &Options) -> Vec<PathBuf> {
    let state = std::env::var_os("FERRULE_LAB_STATE").unwrap_or_else(|| lab::layout::DEFAULT_STATE.into());
    match (options.logs.as_slice(), lab::Layout::new(Path::new(&state))) {
        ([], Ok(layout)) if layout.logs().is_dir() => vec![layout.logs()],
        (named, _) => named.to_vec(),
    }
}

fn take_logs(directory: &Path, bundle: &mut Bundle) -> Vec<String> {
    let mut missing = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("logs in {}: {error}", directory.display())],
    };
    let paths: BTreeSet<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == "log")) {
        match end_of(&path) {
            Ok(text) => drop(bundle.logs.insert(path.display().to_string(), without_secrets(&text))),
            Err(error) => missing.push(format!("{}: {error}", path.display())),
        }
    }
    missing
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A new file that only its owner reads: what a network looks like is nobody else's business. A half of it never stays.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Fail> {
    let name = path.display();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| format!("cannot make {name}: {error}"))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Nothing more can be done when even that fails.
        let _ = std::fs::remove_file(path);
        Fail::Said(format!("cannot write {name}: {error}"))
    })
}
