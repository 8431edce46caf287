//! `ferrule-controller`: reads flags, sets up logging, runs until a signal. All the rest is in the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use controller::config::{Config, LogFormat};
use controller::record::report;
use controller::run::Controller;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => {
            // Help and version are no failures; wrong usage is exit code 1 in every command.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(&config) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ferrule-controller: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("--log {}", config.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    if let Some(path) = &config.source.replay {
        let same = report::run(path, config.check_recompute, config.log_format, std::io::stdout().lock())
            .with_context(|| format!("--replay {}", path.display()))?;
        return Ok(ExitCode::from(if same { 0 } else { 2 }));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let mut controller = Controller::start(config, controller::translate::Objects).await?;
        let error = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            error = controller.ended() => Some(error),
        };
        tracing::info!("stopping");
        controller.stop().await;
        match error {
            None => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error.into()),
        }
    })
}
