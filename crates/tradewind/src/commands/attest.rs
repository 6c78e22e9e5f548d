//! `attest`: an auditor's word for where devices stand.

use crate::cli::Attest;
use crate::client::NodeClient;
use crate::node::api::view::{AttestationView, PlaceRequest};
use crate::printer::{Printer, short, table, time};

pub(super) async fn attest(verb: &Attest, node: &NodeClient, printer: Printer) -> anyhow::Result<()> {
    match verb {
        Attest::Place { device, country, label, span } => {
            let (country, label) = (country.to_ascii_uppercase(), label.clone());
            let bar = printer.spinner("attesting");
            let place = PlaceRequest { device: *device, country, label, span: *span };
            let attested = node.attest_place(&place).await;
            bar.finish_and_clear();
            printer.data(&attested?, show)
        }
        Attest::Revoke { id } => {
            let bar = printer.spinner("taking it back");
            let revoked = node.revoke(*id).await;
            bar.finish_and_clear();
            printer.data(&revoked?, show)
        }
        Attest::List { device } => printer.data(&node.attestations(*device).await?, |views| {
            if views.is_empty() {
                return "nobody attested where it stands".into();
            }
            let rows = views.iter().map(|view| {
                let id = view.id.clone();
                [id, short(&view.issuer), place(view), time(view.expires), standing(view).into()]
            });
            table(["attestation", "by", "place", "until", "holds"], rows)
        }),
    }
}

fn show(view: &AttestationView) -> String {
    let rows = [
        ["by".to_owned(), view.issuer.clone()],
        ["device".into(), view.device.clone()],
        ["place".into(), place(view)],
        ["until".into(), time(view.expires)],
        ["holds".into(), standing(view).into()],
    ];
    table(["attestation", &view.id], rows)
}

fn place(view: &AttestationView) -> String {
    view.place.clone().unwrap_or_else(|| format!("{}, which no offer states now", short(&view.document)))
}

const fn standing(view: &AttestationView) -> &'static str {
    if view.holds { "yes" } else { "no: expired, or taken back" }
}
