//! The command line.

use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tradewind_proto::ids::{DeviceId, JobId, LeaseId};
use tradewind_proto::units::Seconds;

use crate::commands::{Forward, Lie};

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
    /// Run a command in a running job, or a shell; exits with the command's own code.
    Exec(Exec),
    /// Log into a running job with the system's ssh.
    Ssh {
        /// The job: its id, the beginning of one, or its name.
        job: String,
        /// What else ssh is told, and the command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Let ssh, scp, rsync and editors reach jobs as `tradewind-JOB`: writes a file for their configuration to include.
    SshConfig {
        /// Say the host's name of this job.
        job: Option<String>,
        /// Include it in ~/.ssh/config.
        #[arg(long)]
        install: bool,
    },
    /// Speak SSH on standard input and output for a job; what ssh's ProxyCommand runs.
    #[command(hide = true)]
    SshProxy {
        /// The host's name.
        host: String,
    },
    /// Make ports of a running job ports of this machine.
    PortForward {
        /// The job: its id, the beginning of one, or its name.
        job: String,
        /// PORT, LOCAL:PORT or ADDRESS:LOCAL:PORT. LOCAL 0 is any that is free; without an address it is on the loopback.
        #[arg(required = true)]
        ports: Vec<Forward>,
    },
    /// Open the Jupyter server of a running job here: waits for it, and prints its URL.
    Jupyter {
        /// The job: its id, the beginning of one, or its name.
        job: String,
        /// The port on this machine; the server's own where not given, 0 for any that is free.
        #[arg(long)]
        port: Option<u16>,
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
    /// The node's wallet: balances, or what is done with it.
    Wallet {
        #[command(subcommand)]
        verb: Option<WalletVerb>,
    },
    /// The node's provider role.
    #[command(subcommand)]
    Provider(Provider),
    /// The node's meter role: whom it serves, what buyers name it by, and the leases that it meters.
    Meter,
    /// What chain and watchers say of devices: uptime, challenges, buyers, strikes.
    Reputation {
        /// Only this device, or those whose id begins so.
        device: Option<String>,
    },
    /// Where devices stand, by the word of auditors.
    #[command(subcommand)]
    Attest(Attest),
    /// The node's watcher role: its seats, what watchers may do by their number, and the cases that it hears.
    Watcher,
    /// Take a network's profile and make a wallet.
    Setup(Setup),
    /// Run a node in the foreground; or start, stop and describe one.
    Node(Node),
    /// Replace the program by a newer one and start the node anew with it. Workloads go on; where the new program does
    /// not answer or lost a lease, the old one comes back.
    Upgrade(Upgrade),
    /// Who the node is, and what it does.
    Status,
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// A whole market on this machine: ledger, three providers, buyer and explorer; trains digits on the best offer.
    /// With a scenario: what happens to everybody's money when something goes wrong.
    Demo(Demo),
    /// A device that lies to watchers, for the demonstration's scenarios.
    #[command(hide = true)]
    HostileDevice {
        /// Its node's configuration.
        #[arg(long, value_name = "PATH")]
        config: PathBuf,
        /// What it lies about.
        #[arg(long, value_enum)]
        lie: Lie,
    },
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
    /// Sign vouchers ahead for the whole lease, so that the job goes on when this machine is gone.
    #[arg(long, conflicts_with = "meter")]
    pub(crate) unattended: bool,
    /// Have another node that you trust meter and pay, so that the job goes on when this machine is gone: a name under
    /// `buyer.meters`, its mesh key, or its mesh address; `own` for this node.
    #[arg(long, value_name = "NODE")]
    pub(crate) meter: Option<String>,
    /// When the job ends by itself, keep its machine for so long, to go on in with `exec` and `ssh`: `30m`. Instead of the job
    /// file's `keep`.
    #[arg(long, value_name = "TIME")]
    pub(crate) keep: Option<Seconds>,
    /// Stop the job when it did nothing and nobody was in it for so long: `15m`. Instead of the job file's `idle_stop`.
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_stop: Option<Seconds>,
}

/// What to run in a job.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Pass standard input on; a shell always gets it.
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Lend the command this terminal; a shell at one always gets it.
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Set a variable. May be given again.
    #[arg(long = "env", short, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) envs: Vec<(String, String)>,
    /// The job: its id, the beginning of one, or its name.
    pub(crate) job: String,
    /// The program and its arguments; a shell where not given.
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    if name.is_empty() { Err("it has no name".into()) } else { Ok((name.into(), value.into())) }
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

/// Attestations.
#[derive(Debug, Subcommand)]
pub(crate) enum Attest {
    /// Attest on chain, as this node's account, that a device stands somewhere. Jobs that trust the account count on it.
    Place {
        /// The device's id, as `provider status` shows it there.
        device: DeviceId,
        /// An ISO 3166 country code, as the device's offers state it.
        #[arg(long)]
        country: String,
        /// The label that they state for the place, where they state one.
        #[arg(long)]
        label: Option<String>,
        /// How long it holds.
        #[arg(long = "for", value_name = "TIME", default_value = "365d")]
        span: Seconds,
    },
    /// Take an attestation of this node's account back, for good.
    Revoke {
        /// Its id, as `attest place` and `attest list` show it.
        id: B256,
    },
    /// List who ever attested where a device stands, and what of it holds.
    List {
        /// The device's id.
        device: DeviceId,
    },
}

/// A node.
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// Its configuration.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Leave the terminal and log to a file; how `tradewind node start` runs it.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<NodeVerb>,
}

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Start the node in the background, unless it runs.
    Start,
    /// End the node. Workloads and leases go on and are taken up by its next start.
    Stop,
    /// End the node and start it in the background, with its configuration as it is now.
    Restart,
    /// Make the node a service of systemd: started with the machine, and again after a fault. `start`, `stop` and `restart`
    /// then drive the service.
    Install(Install),
    /// End and remove the service. Data, leases and workloads stay.
    Uninstall,
    /// Print the local API as an OpenAPI document.
    Openapi,
}

/// A service to install.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// As a service of this user. What it is where neither is said, and the user is not root.
    #[arg(long, conflicts_with = "system")]
    pub(crate) user: bool,
    /// As a service of the machine.
    #[arg(long)]
    pub(crate) system: bool,
    /// Print the unit and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A new program.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The new program; nothing is downloaded.
    pub(crate) file: PathBuf,
    /// Also where it is older than the installed one.
    #[arg(long)]
    pub(crate) force: bool,
    /// How long the node may take until it answers, before the old program comes back.
    #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) wait: u64,
}

/// The provider role.
#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// Examine this machine: what keeps it from lending or makes it a worse provider, each with its fix. Changes nothing.
    Doctor,
    /// Compare a Slurm cluster with what lending it needs, and print what its administrator has to add.
    Slurm {
        /// Print only. Nothing of a cluster is ever edited by this program, so it is the only way.
        #[arg(long, required = true)]
        dry_run: bool,
    },
    /// Sell this machine's capacity: examines and measures it, proposes a price, writes the role into the node's configuration
    /// and starts it.
    Join(Box<Join>),
    /// Measure processor, memory and disk, and the line to a first node of the network, whose traffic that is too.
    Speed,
    /// Show the machine's device, stake and leases.
    Status,
    /// Take no new leases, wait for running ones, and unbond the stake; again later, to take the stake out.
    Leave,
    /// List the leases that this node hosts.
    Leases,
    /// Take no new leases; running ones go on.
    Pause,
    /// Take new leases again.
    Resume,
    /// Take no new leases and wait until none runs, to work on the machine or switch it off.
    Drain {
        /// Take spot leases back too: their notice, time to save progress, then their end.
        #[arg(long)]
        reclaim: bool,
        /// Wait so long at most, then say what still runs: `30m`.
        #[arg(long, value_name = "TIME")]
        within: Option<Seconds>,
    },
    /// Take spot leases back: their notice, time to save progress, then their end.
    Reclaim {
        /// Only this one.
        lease: Option<LeaseId>,
    },
}

/// What is sold.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The price of a unit for an hour, in whole tokens of the network's quote asset; proposed from live offers where not given.
    #[arg(long)]
    pub(crate) price: Option<String>,
    /// What a kWh costs here, in whole tokens: nothing is sold below what a unit's electricity costs. 0.25 for the proposed price
    /// alone where not given.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) power_price: Option<String>,
    /// What a unit draws at work, in watts; read from the hardware, or assumed, where not given.
    #[arg(long)]
    pub(crate) watts: Option<u32>,
    /// Take the proposed price without asking.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Units to sell, leased one by one.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) units: Option<u8>,
    /// CPUs of a unit.
    #[arg(long)]
    pub(crate) cpus: Option<u32>,
    /// Memory of a unit, such as 8GiB.
    #[arg(long)]
    pub(crate) memory: Option<String>,
    /// Disk of a unit, such as 50GiB.
    #[arg(long)]
    pub(crate) disk: Option<String>,
    /// Where the machine is: an ISO 3166 country code.
    #[arg(long)]
    pub(crate) country: Option<String>,
    /// What starts workloads: process, docker. May be given again.
    #[arg(long = "runtime", value_name = "NAME")]
    pub(crate) runtimes: Vec<String>,
    /// Stake for the device, in whole tokens of what the network stakes; 0 for the unstaked tier, which few jobs take.
    #[arg(long)]
    pub(crate) stake: Option<String>,
    /// The account that stakes the device instead of this one, and gets the stake back.
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) sponsor: Option<String>,
    /// Free balance to keep for lease bonds, in whole tokens.
    #[arg(long)]
    pub(crate) bonds: Option<String>,
}

/// What to do with the wallet.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletVerb {
    /// Print the account's address. Needs no node.
    Address,
    /// Show where to send money, or ask a development network's faucet, and wait until it is there. Needs no node.
    Fund {
        /// Wait until the account has this much, in whole tokens; any money where not given.
        amount: Option<String>,
    },
    /// Move money of the wallet into its free balance in the contract.
    Deposit {
        /// In whole tokens.
        amount: String,
    },
    /// Move free balance out of the contract.
    Withdraw {
        /// In whole tokens.
        #[arg(required_unless_present = "all")]
        amount: Option<String>,
        /// Everything that is free, less a hundredth of a token for a relayer's fee.
        #[arg(long, conflicts_with = "amount")]
        all: bool,
        /// Who receives it; the wallet itself where not given.
        #[arg(long, value_name = "ACCOUNT")]
        to: Option<String>,
    },
    /// Stake a device that names this account as its sponsor, from the free balance or the wallet. The stake comes back here.
    Stake {
        /// Its id, as `provider join` and `provider status` show it there.
        device: DeviceId,
        /// In whole tokens of what the network stakes.
        amount: String,
    },
    /// Begin to take back the stake of a device that this account sponsors; once it is unbonded, take it out.
    Unstake {
        /// Its id.
        device: DeviceId,
    },
    /// Write an encrypted copy of the wallet (Web3 v3), read it back, and check it. Needs no node.
    Export {
        /// The copy; must not exist.
        file: PathBuf,
        /// The copy's password stands in this file; asked for where not given.
        #[arg(long, value_name = "PATH")]
        password_file: Option<PathBuf>,
    },
}

/// How to set a node up. A setup that was broken off goes on where it stopped.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// The network's signed profile: a file or a URL. Not needed again once it was taken.
    pub(crate) profile: Option<String>,
    /// Trust this account's signature on the profile, and nobody else's.
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) publisher: Option<Address>,
    /// Take the wallet from here: a Web3 v3 keystore, or 64 hex digits. A new one is made where not given.
    #[arg(long, value_name = "PATH")]
    pub(crate) import: Option<PathBuf>,
    /// The password of the imported keystore stands in this file.
    #[arg(long, value_name = "PATH", requires = "import")]
    pub(crate) import_password_file: Option<PathBuf>,
    /// The wallet's password stands in this file, and the node reads it there.
    #[arg(long, value_name = "PATH")]
    pub(crate) password_file: Option<PathBuf>,
    /// Write the wallet's backup here, and open it again to check it.
    #[arg(long, value_name = "PATH")]
    pub(crate) backup: Option<PathBuf>,
    /// The backup's password stands in this file; else a recovery code is shown and asked back.
    #[arg(long, value_name = "PATH", requires = "backup")]
    pub(crate) backup_password_file: Option<PathBuf>,
    /// Go without a backup: whoever loses the wallet loses the money.
    #[arg(long, conflicts_with = "backup")]
    pub(crate) no_backup: bool,
    /// Wait until the account has this much, in whole tokens. At a terminal, any money is waited for.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) wait_for: Option<String>,
    /// Do not look for money at all.
    #[arg(long, conflicts_with = "wait_for")]
    pub(crate) no_wait: bool,
    /// Trust the publisher and ask nothing. A network of value then wants `--backup` with its password file, or `--no-backup`.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Change the network, or its publisher. The wallet stays.
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
    /// Show this failure instead: who loses what, who pays, and what the chain says of it.
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) scenario: Option<Scenario>,
    /// End when everything is settled, instead of keeping the market up.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep everything in this directory; a new temporary one when not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The digits program; found beside this one when not given.
    #[arg(long, value_name = "PATH", env = "TRADEWIND_DIGITS")]
    pub(crate) digits: Option<PathBuf>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A provider dies in mid-lease: forty seats convict it, its stake is slashed and burned, and its buyer is compensated.
    Blackout,
    /// A device signs products with a wrong element: one dot product proves it, nobody votes.
    Cheat,
    /// A device says two things under one number: both are shown to the court, nobody votes.
    Equivocate,
    /// A provider dies where too few watchers sit for a court: its buyer challenges it on chain and is compensated.
    Lonely,
}
