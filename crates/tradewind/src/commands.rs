//! The commands, one file each, as the command line names them.

mod demo;
mod jobs;
mod market;
mod run;
mod setup;

use std::io;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Config, Lease, Provider};
use crate::client::NodeClient;
use crate::node;
use crate::node::config::NodeConfig;
use crate::paths;
use crate::printer::Printer;

/// Does what the command line says. The exit code is the job's where there is one.
pub(crate) async fn dispatch(cli: Cli, printer: &Printer) -> anyhow::Result<u8> {
    let node = || client(&cli);
    match &cli.command {
        Command::Run(run) => run::run(run, &node()?, *printer).await,
        Command::Wait { job } => jobs::wait(*job, &node()?, *printer).await,
        Command::Ps { all } => jobs::ps(*all, &node()?, *printer).await.map(|()| 0),
        Command::Logs { job, follow, attempt } => {
            jobs::logs(*job, *attempt, *follow, &node()?, *printer).await.map(|()| 0)
        }
        Command::Stop { job } => jobs::stop(*job, &node()?, *printer).await.map(|()| 0),
        Command::Offers => market::offers(&node()?, *printer).await.map(|()| 0),
        Command::Plan { file } => run::plan(file, &node()?, *printer).await.map(|()| 0),
        Command::Lease(Lease::Show { lease }) => jobs::lease(*lease, &node()?, *printer).await.map(|()| 0),
        Command::Wallet => market::wallet(&node()?, *printer).await.map(|()| 0),
        Command::Provider(Provider::Leases) => market::leases(&node()?, *printer).await.map(|()| 0),
        Command::Provider(Provider::Pause) => market::accept(false, &node()?, *printer).await.map(|()| 0),
        Command::Provider(Provider::Resume) => market::accept(true, &node()?, *printer).await.map(|()| 0),
        Command::Setup(options) => setup::setup(options, *printer).map(|()| 0),
        Command::Node { config } => {
            log_to_stderr();
            let path = config.clone().map_or_else(paths::config_file, Ok)?;
            node::run(NodeConfig::load(&path)?).await.map(|()| 0)
        }
        Command::Status => market::status(&node()?, *printer).await.map(|()| 0),
        Command::Config(Config::Show { origin }) => setup::show(&cli, *origin, *printer).map(|()| 0),
        Command::Demo(options) => demo::demo(options, *printer).await,
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "tradewind", &mut io::stdout());
            Ok(0)
        }
    }
}

/// The node that the command line, the environment or the configuration names.
fn client(cli: &Cli) -> anyhow::Result<NodeClient> {
    if let Some(socket) = &cli.socket {
        return Ok(NodeClient::new(socket));
    }
    let file = paths::config_file()?;
    let socket =
        if file.exists() { NodeConfig::load(&file)?.socket() } else { paths::data_dir()?.join("node.sock") };
    Ok(NodeClient::new(socket))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRADEWIND_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,tradewind=info"));
    let installed = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
    if installed.is_err() {
        tracing::debug!("a log subscriber was installed before ours");
    }
}
