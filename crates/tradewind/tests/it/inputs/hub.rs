//! A hub of our own, in the shapes that the real one documents: the revision's commit, a listing in pages by `Link`, `resolve` that
//! gives small files itself and redirects to signed addresses of large ones. The real hub cannot be reached from tests, so that only
//! these shapes are tested, not that it still has them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, LINK, LOCATION};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tradewind_proto::supervision::Outcome;
use tradewind_testbed::web::Authority;

use super::{SMALL, holding, market, submit};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const TOKEN: &str = "hf_hunter2token";
const WEIGHTS: &[u8] = b"weights";
const SHA256: &str = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";

/// Where the hub keeps large files. Whoever has a signed address may read; a token has no business here.
async fn shelf(request: Request) -> Response {
    let is_signed = request.uri().query() == Some("Signature=of-the-shelf");
    if request.headers().contains_key(AUTHORIZATION) || !is_signed {
        return StatusCode::FORBIDDEN.into_response();
    }
    WEIGHTS.into_response()
}

struct Site {
    shelf: String,
    sha256: String,
}

async fn hub(State(site): State<Arc<Site>>, request: Request) -> Response {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default());
    let is_known = request.headers().get(AUTHORIZATION).is_some_and(|got| *got == format!("Bearer {TOKEN}"));
    if path.contains("/secret/") && !is_known {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let is_private = path.contains("/secret/");
    if path.ends_with("/revision/v1") {
        return json!({"id": "acme/x", "sha": COMMIT, "private": is_private, "gated": false})
            .to_string()
            .into_response();
    }
    if path.ends_with(&format!("/tree/{COMMIT}")) && !query.contains("cursor") {
        let page = json!([
            {"type": "directory", "oid": "1", "size": 0, "path": "data"},
            {"type": "file", "oid": "2", "size": 3, "path": "config.json"},
        ]);
        let next = format!("<{path}?{query}&cursor=two>; rel=\"next\"");
        return ([(LINK, next)], page.to_string()).into_response();
    }
    if path.ends_with(&format!("/tree/{COMMIT}")) {
        let large = json!({"oid": site.sha256, "size": WEIGHTS.len(), "pointerSize": 127});
        let size = WEIGHTS.len();
        let page =
            json!([{"type": "file", "oid": "3", "size": size, "path": "data/model.bin", "lfs": large}]);
        return page.to_string().into_response();
    }
    if path.ends_with(&format!("/resolve/{COMMIT}/config.json")) {
        let to = path.replace("/resolve/", "/resolve-cache/");
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response();
    }
    if path.ends_with(&format!("/resolve-cache/{COMMIT}/config.json")) {
        return "{}\n".into_response();
    }
    if path.ends_with(&format!("/resolve/{COMMIT}/data/model.bin")) {
        let to = format!("{}/blob?Signature=of-the-shelf", site.shelf);
        return (StatusCode::FOUND, [(LOCATION, to)]).into_response();
    }
    StatusCode::NOT_FOUND.into_response()
}

fn reading(endpoint: &str, input: &str, more: &str) -> String {
    format!(
        "run: cat x/config.json x/data/model.bin > result; env | grep -c hunter2 >> result || true\n\
         outputs: [result]\ninputs: [{{url: \"{input}\", target: x}}]\n\
         hf: {{endpoint: \"{endpoint}\"{more}}}\n{SMALL}"
    )
}

#[test]
fn repositories_are_read_at_the_commit_that_a_revision_was_and_a_token_stays_with_the_buyer() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let endpoint = market.block_on(async {
        let shelf = authority.serve(axum::Router::new().fallback(shelf)).await;
        let site = Arc::new(Site { shelf, sha256: SHA256.into() });
        authority.serve(axum::Router::new().fallback(hub).with_state(site)).await
    });
    let public = reading(&endpoint, "hf://acme/open@v1", "");
    let private = reading(&endpoint, "hf://datasets/acme/secret@v1/", ", token: HUB_TOKEN");
    for text in [&public, &private] {
        let job = submit(&market, text, "").expect("taken over");
        let lease = market.settled(&job);
        assert_eq!(lease.outcome, Some(Outcome::Finished { code: 0 }), "{lease:?}");
        assert_eq!(std::fs::read(job.output.join("result")).expect("an output"), b"{}\nweights0\n");
        let given = format!("{:?}", lease.manifest.inputs);
        let is_private = text == &private;
        assert_eq!(
            given.contains(&format!("/acme/open/resolve/{COMMIT}/config.json")),
            !is_private,
            "{given}"
        );
        assert_eq!(given.contains("public: true"), !is_private, "{given}");
    }
    assert!(
        holding(&market.path("provider"), TOKEN).is_empty()
            && holding(&market.path("buyer"), TOKEN).is_empty()
    );
    assert!(!market.logged("provider", "of-the-shelf") && !market.logged("buyer", "of-the-shelf"));
    let without = private.replace(", token: HUB_TOKEN", "");
    let error = submit(&market, &without, "").err().expect("refused");
    assert!(error.contains("hf://datasets/acme/secret") && error.contains("name a token"), "{error}");
    let nowhere = public.replace("hf://acme/open@v1", "hf://acme/open@v1/nowhere.bin");
    let error = submit(&market, &nowhere, "").err().expect("refused");
    assert!(error.contains("there is no `nowhere.bin`"), "{error}");
}
