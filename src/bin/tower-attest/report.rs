//! `report`: evidence of this machine for a nonce, for whoever wants to look before there is a server.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_attest::protocol::{ATTESTATION_NONCE, Evidence, NonceHeader, WELL_KNOWN_PATH};
use tower_attest::{Attester, Platform, ReportLayer};

use crate::failure::Failure;
use crate::inspect::{NonceArgument, nonce};
use crate::serve::hardware::Hardware;

const EXAMPLES: &str = "\
The nonce comes from whoever will judge. Its evidence vouches for keys that
end with this program: it shows that the machine is genuine and what it
measures, and no server can be reached by it.

Exit codes: 0 made, 2 not.

Examples:
  tower-attest report --nonce \"$(openssl rand -hex 32)\" > evidence.json
  tower-attest inspect evidence.json --nonce NONCE --policy policy.toml
  tower-attest report --nonce NONCE --form raw -o report.bin";

/// Has the hardware make a report for a nonce, and prints it as evidence.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MakeReport {
    /// 32 bytes in hexadecimal or base64, from whoever will judge the evidence.
    #[arg(long, value_parser = nonce)]
    nonce: NonceArgument,
    /// The form of what is printed.
    #[arg(long, value_name = "FORM", default_value = "json")]
    form: Form,
    /// The file to write. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The hardware to ask.
    #[arg(long, value_name = "PLATFORM", default_value = "auto")]
    platform: Hardware,
    /// Ask a simulated platform, which proves nothing.
    #[arg(long)]
    insecure_no_hardware: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Evidence as the endpoint serves it.
    Json,
    /// Evidence as the response field carries it.
    Cbor,
    /// The hardware's report or quote alone, without what vouches for it.
    Raw,
}

impl MakeReport {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        if self.platform.is_simulated() && !self.insecure_no_hardware {
            return Err(Failure::undecided(
                "--platform: this one is simulated and proves nothing; accept that with --insecure-no-hardware",
            ));
        }
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::during("starting", &error))?;
        let json = runtime.block_on(self.evidence())?;
        let bytes = match self.form {
            Form::Json => [&json[..], b"\n"].concat(),
            form => {
                let evidence = Evidence::from_json(&json, &Platform::KNOWN)
                    .map_err(|error| Failure::during("own evidence", &error))?;
                if form == Form::Cbor { evidence.to_cbor() } else { evidence.report.bytes().to_vec() }
            }
        };
        let written = match &self.output {
            Some(path) => std::fs::write(path, bytes),
            None => std::io::stdout().lock().write_all(&bytes),
        };
        written.map_err(|error| Failure::during("writing", &error))?;
        Ok(ExitCode::SUCCESS)
    }

    /// As a server would answer its endpoint: the same attester and the same layer, without a network.
    async fn evidence(&self) -> Result<Bytes, Failure> {
        let attester = Attester::builder(self.platform.open(None)?).start().await;
        let attester = attester.map_err(|error| Failure::during("the hardware", &error))?;
        let nothing =
            service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        let request = Request::get(WELL_KNOWN_PATH)
            .header(ATTESTATION_NONCE, NonceHeader::new(self.nonce.0).to_value())
            .body(Full::default())
            .map_err(|error| Failure::during("asking", &error))?;
        let response = match ReportLayer::new(attester).layer(nothing).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| Failure::during("asking", &error))?.to_bytes();
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(Failure::undecided(format_args!("the hardware made no report: {}", String::from_utf8_lossy(&body))))
        }
    }
}
