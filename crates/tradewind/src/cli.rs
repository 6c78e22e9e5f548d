//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use tradewind_proto::ids::{JobId, LeaseId};

/// An open market for AI compute: run a job on the best offer, or sell spare capacity.
#[derive(Debug, Parser)]
#[command(name = "tradewind", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print data as JSON, one value a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The node's socket.
    #[arg(long, global = true, env = "TRADEWIND_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job file on the best offer, follow its log, and bring its outputs home.
    Run(Run),
    /// Wait until a job is over; exits with the job's own code.
    Wait {
        /// The job.
        job: JobId,
    },
    /// List jobs.
    Ps {
        /// Also those that are over.
        #[arg(long, short)]
        all: bool,
    },
    /// Show a job's log.
    Logs {
        /// The job.
        job: JobId,
        /// Go on until the job is over.
        #[arg(long, short)]
        follow: bool,
        /// Which attempt, counted from zero; the last one when not given.
        #[arg(long)]
        attempt: Option<usize>,
    },
    /// End a job: its stop signal, its grace, then kill.
    Stop {
        /// The job.
        job: JobId,
    },
    /// List the live offers.
    Offers,
    /// Show what a job would get now, and why other offers would not do. Spends nothing.
    Plan {
        /// The job file.
        file: PathBuf,
    },
    /// Leases of this node's jobs.
    #[command(subcommand)]
    Lease(Lease),
    /// The node's wallet.
    Wallet,
    /// The node's provider role.
    #[command(subcommand)]
    Provider(Provider),
    /// Take a network's profile and make a wallet.
    Setup(Setup),
    /// Run a node in the foreground.
    Node {
        /// Its configuration.
        #[arg(long, value_name = "PATH")]
        config: Option<PathBuf>,
    },
    /// Who the node is, and what it does.
    Status,
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// A whole market on this machine: ledger, three providers, buyer and explorer; trains digits on the best offer.
    Demo(Demo),
    /// Print a shell's completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// How to run a job.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The job file.
    pub(crate) file: PathBuf,
    /// Where outputs are put.
    #[arg(long, short, value_name = "DIR", default_value = "outputs")]
    pub(crate) output: PathBuf,
    /// Spend without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Leave the job with the node and print its id.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Show the plan and the worst loss, and stop there.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Leases.
#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// Show a lease with its terms and money.
    Show {
        /// The lease.
        lease: LeaseId,
    },
}

/// The provider role.
#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// List the leases that this node hosts.
    Leases,
    /// Take no new leases; running ones go on.
    Pause,
    /// Take new leases again.
    Resume,
}

/// How to set a node up.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// The network's profile.
    pub(crate) profile: PathBuf,
    /// Replace a configuration that is there.
    #[arg(long)]
    pub(crate) force: bool,
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show the configuration in force.
    Show {
        /// Also where each part comes from.
        #[arg(long)]
        origin: bool,
    },
}

/// How to run the demonstration.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End when the job is settled, instead of keeping the market up.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep everything in this directory; a new temporary one when not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The digits program; found beside this one when not given.
    #[arg(long, value_name = "PATH", env = "TRADEWIND_DIGITS")]
    pub(crate) digits: Option<PathBuf>,
}
