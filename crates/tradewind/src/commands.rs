//! The commands, one file each, as the command line names them.

mod attest;
mod config;
mod demo;
mod exec;
mod forward;
mod funds;
mod jobs;
mod jupyter;
mod market;
mod meter;
mod node;
mod provider;
mod reputation;
mod run;
mod setup;
mod ssh;
mod upgrade;
mod wallet;
mod watcher;

pub(crate) use demo::Lie;
pub(crate) use forward::Forward;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::CommandFactory;

use crate::cli::{Cli, Command, Config, Lease};
use crate::client::{NodeClient, Told};
use crate::node::config::NodeConfig;
use crate::paths;
use crate::printer::Printer;
use crate::service::Unit;

/// Does what the command line says. The exit code is the job's where there is one.
pub(crate) async fn dispatch(cli: Cli, printer: &Printer) -> anyhow::Result<u8> {
    let node = || client(&cli);
    match &cli.command {
        Command::Run(run) => run::run(run, &cli, *printer).await,
        Command::Wait { job } => jobs::wait(*job, &node()?, *printer).await,
        Command::Ps { all } => jobs::ps(*all, &node()?, *printer).await.map(|()| 0),
        Command::Logs { job, follow, attempt } => {
            jobs::logs(*job, *attempt, *follow, &node()?, *printer).await.map(|()| 0)
        }
        Command::Stop { job } => jobs::stop(*job, &node()?, *printer).await.map(|()| 0),
        Command::Exec(options) => exec::exec(options, &node()?).await,
        Command::Ssh { job, arguments } => ssh::ssh(job, arguments, &cli).await,
        Command::SshConfig { job, install } => ssh::config(job.as_deref(), *install, &cli, *printer).await,
        Command::SshProxy { host } => ssh::proxy(host, &node()?).await,
        Command::PortForward { job, ports } => forward::forward(job, ports, &node()?, *printer).await,
        Command::Jupyter { job, port } => jupyter::jupyter(job, *port, &node()?, *printer).await,
        Command::Offers => market::offers(&market_node(&cli, *printer).await?, *printer).await.map(|()| 0),
        Command::Plan { file } => run::plan(file, &cli, *printer).await.map(|()| 0),
        Command::Lease(Lease::Show { lease }) => jobs::lease(*lease, &node()?, *printer).await.map(|()| 0),
        Command::Wallet { verb } => wallet::wallet(verb.as_ref(), &cli, *printer).await,
        Command::Provider(verb) => provider::provider(verb, &cli, *printer).await.map(|()| 0),
        Command::Meter => meter::show(&node()?, *printer).await.map(|()| 0),
        Command::Reputation { device } => {
            reputation::show(&node()?, device.as_deref(), *printer).await.map(|()| 0)
        }
        Command::Attest(verb) => attest::attest(verb, &node()?, *printer).await.map(|()| 0),
        Command::Watcher => watcher::show(&node()?, *printer).await.map(|()| 0),
        Command::Setup(options) => setup::setup(options, *printer).await,
        Command::Node(options) => node::node(options, *printer).await.map(|()| 0),
        Command::Upgrade(options) => upgrade::upgrade(options, *printer).await.map(|()| 0),
        Command::Status => market::status(&node()?, service(&cli).as_ref(), *printer).await.map(|()| 0),
        Command::Config(Config::Show { origin }) => config::show(&cli, *origin, *printer).map(|()| 0),
        Command::Demo(options) => demo::demo(options, *printer).await,
        Command::HostileDevice { config, lie } => demo::serve_hostile(config, *lie).await.map(|()| 0),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "tradewind", &mut io::stdout());
            Ok(0)
        }
    }
}

/// How long a node that has just started may listen for offers.
const LISTEN: Duration = Duration::from_secs(10);
/// How long offers must stay the same to be taken for all.
const QUIET: Duration = Duration::from_millis(500);

/// The node that the command line, the environment or the configuration names.
fn client(cli: &Cli) -> anyhow::Result<NodeClient> {
    if let Some(socket) = &cli.socket {
        return Ok(NodeClient::new(socket));
    }
    let file = paths::config_file()?;
    if file.exists() {
        return Ok(NodeClient::new(NodeConfig::load(&file)?.socket()));
    }
    let socket = paths::data_dir()?.join("node.sock");
    if socket.exists() { Ok(NodeClient::new(socket)) } else { Err(not_set_up(&socket)) }
}

/// The service of the node that the configuration names.
fn service(cli: &Cli) -> Option<Unit> {
    let file = paths::config_file().ok().filter(|_| cli.socket.is_none())?;
    Unit::of(&std::path::absolute(file).ok()?)
}

/// The same, started in the background where none runs.
async fn market_node(cli: &Cli, printer: Printer) -> anyhow::Result<NodeClient> {
    let file = paths::config_file()?;
    if cli.socket.is_some() || !file.exists() {
        return client(cli);
    }
    let (file, config) = node::load(&file)?;
    let (node, fresh) = node::ensure(&file, &config, printer).await?;
    if fresh && config.buyer.is_some() {
        let bar = printer.spinner("listening for offers");
        listen(&node).await?;
        bar.finish_and_clear();
    }
    Ok(node)
}

/// Waits until the directory's offers are in.
async fn listen(node: &NodeClient) -> anyhow::Result<()> {
    let (began, mut changed, mut heard) = (Instant::now(), Instant::now(), 0);
    while began.elapsed() < LISTEN && (heard == 0 || changed.elapsed() < QUIET) {
        let now = node.offers().await?.len();
        if now != heard {
            (heard, changed) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

pub(crate) fn not_set_up(socket: &Path) -> anyhow::Error {
    let hint =
        "`tradewind setup network.toml` joins a network; `tradewind demo` shows a market on this machine";
    Told::error(format!("no node answers on {}: this machine is not set up", socket.display()), hint)
}
