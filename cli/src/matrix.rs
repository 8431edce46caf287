//! `ferrule matrix`: who reaches whom, predicted without a cluster from scenarios or manifests.

use std::io::{Read, Write};
use std::path::Path;

use network::Network;
use network::matrix::{Matrix, MatrixId, Participant, everybody, pods_of, predict};
use objects::SourceText;

use crate::arguments::{self, Engine, Output};
use crate::fail::{Fail, Outcome};
use crate::grid;
use crate::model::{self, report};
use crate::paint::Paint;

pub fn run(matrix: &arguments::Matrix) -> Result<Outcome, Fail> {
    let (predictions, clean) = match (&matrix.scenario, &matrix.manifests) {
        (Some(file), _) => scenarios(file, matrix.engine)?,
        (None, Some(directory)) => manifests(directory, matrix)?,
        (None, None) => return Err(Fail::Said("say --scenario FILE or --manifests DIR".to_owned())),
    };
    let mut out = std::io::stdout().lock();
    for prediction in &predictions {
        match matrix.output {
            Output::Json => {
                let line = serde_json::to_string(prediction).map_err(|error| error.to_string())?;
                writeln!(out, "{line}")?;
            }
            Output::Table => {
                if let Some(id) = &prediction.id {
                    let id = match id {
                        MatrixId::Number(number) => number.to_string(),
                        MatrixId::Text(text) => text.clone(),
                    };
                    writeln!(out, "{}", Paint::stdout().bold(format!("scenario {id}")))?;
                }
                out.write_all(grid::one(prediction, Paint::stdout()).as_bytes())?;
            }
        }
    }
    // What could not be used is not predicted: the answer is not the one that was asked for.
    Ok(if clean { Outcome::Expected } else { Outcome::Failed })
}

fn scenarios(file: &Path, engine: Engine) -> Result<(Vec<Matrix>, bool), Fail> {
    let mut text = String::new();
    let (name, read) = if file == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text))
    } else {
        let opened = std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text));
        (file.display().to_string(), opened)
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    let (scenarios, problems) = objects::scenarios(&SourceText::new(name, text));
    let predictions = scenarios
        .iter()
        .map(|scenario| {
            let mut matrix = evaluate(&scenario.network, &scenario.participants(), engine);
            matrix.id.clone_from(&scenario.id);
            matrix
        })
        .collect();
    Ok((predictions, report(&problems)))
}

fn manifests(directory: &Path, matrix: &arguments::Matrix) -> Result<(Vec<Matrix>, bool), Fail> {
    let (network, clean) = network_of(directory, matrix.nodes)?;
    let participants = if matrix.all { everybody(&network) } else { pods_of(&network) };
    Ok((vec![evaluate(&network, &participants, matrix.engine)], clean))
}

/// The network that manifests describe, placed on so many nodes; and whether all of them could be used. Says what could not.
pub fn network_of(directory: &Path, nodes: u8) -> Result<(Network, bool), Fail> {
    let model = model::load(directory, nodes)?;
    Ok((model.network, model.is_clean))
}

fn evaluate(network: &Network, participants: &[Participant], engine: Engine) -> Matrix {
    match engine {
        Engine::Reference => predict(network, participants),
        Engine::Flows => compiler::simulate::matrix::predict(network, participants),
    }
}
