//! The process: flags, log, runtime, signals. Everything else is the library.

use clap::Parser;
use ovs_agent::settings::{LogFormat, Settings};

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    start_log(settings.log_format);
    // Two threads: one may wait for the disk while the other serves.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(ovs_agent::run(settings, ended()))?;
    // What still blocks (a read from a pipe, a write to a full disk) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(())
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FERRULE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Ready when somebody wants the process to end.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
