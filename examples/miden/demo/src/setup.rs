//! What the demonstration stands on: Miden's prover, `tower-attest serve` before it, `tower-attest connect` beside the
//! wallet, and a certificate for `localhost`.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::processes::{Process, Ready, free_address};
use wallet::Result;

pub const NAME: &str = "localhost";
/// What every simulated machine of `serve` says it runs.
pub const MEASUREMENT: [u8; 48] = *b"tower-attest simulated measurement, not hardware";
const ANY_PORT: &str = "127.0.0.1:0";
/// Another program.
pub const ANOTHER_MEASUREMENT: [u8; 48] = [0x22; 48];

pub struct Setup {
    /// Miden's transaction prover: h2c, no attestation.
    pub prover: Process,
    /// `serve` before it.
    pub server: Process,
    /// A second worker: another `serve` before the same prover.
    pub worker: Process,
    /// `serve` before a prover of batches.
    pub batch: Process,
    /// `serve` before a prover of blocks.
    pub block: Process,
    /// `connect` to `server`.
    pub sidecar: Process,
    _provers: Vec<Process>,
    tower_attest: PathBuf,
    files: TempDir,
}

impl Setup {
    pub async fn start(miden_remote_prover: &Path, tower_attest: &Path) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        std::fs::write(files.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(files.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let here = files.path();
        let [prover, batches, blocks] = [
            start_prover(miden_remote_prover, "transaction", here).await?,
            start_prover(miden_remote_prover, "batch", here).await?,
            start_prover(miden_remote_prover, "block", here).await?,
        ];
        for measurement in [MEASUREMENT, ANOTHER_MEASUREMENT] {
            std::fs::write(policy(here, measurement), policy_text(measurement))?;
        }
        let server = serve(tower_attest, &prover, "worker-1", here).await?;
        let worker = serve(tower_attest, &prover, "worker-2", here).await?;
        let batch = serve(tower_attest, &batches, "batches", here).await?;
        let block = serve(tower_attest, &blocks, "blocks", here).await?;
        let sidecar = connect(tower_attest, server.address.port(), MEASUREMENT, &[], here).await?;
        let tower_attest = tower_attest.to_owned();
        Ok(Self { prover, server, worker, batch, block, sidecar, _provers: vec![batches, blocks], tower_attest, files })
    }

    pub fn certificate(&self) -> PathBuf {
        self.files.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.files.path().join("key.pem")
    }

    pub fn pem(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.certificate())?)
    }

    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate())?)?;
        Ok(roots)
    }

    /// A new sidecar to the server.
    pub async fn start_sidecar(&self) -> Result<Process> {
        self.start_sidecar_to(self.server.address.port(), MEASUREMENT, &[]).await
    }

    /// The same to another port, with another policy and more flags.
    pub async fn start_sidecar_to(&self, port: u16, measurement: [u8; 48], flags: &[&str]) -> Result<Process> {
        connect(&self.tower_attest, port, measurement, flags, self.files.path()).await
    }
}

async fn start_prover(program: &Path, kind: &str, files: &Path) -> Result<Process> {
    let address = free_address().await?;
    let port = address.port().to_string();
    let arguments = ["--kind", kind, "--port", &port, "--capacity", "8", "--timeout", "120s"];
    Process::start(program, &arguments, Ready::Accepts(address), files).await
}

/// Miden's prover stays as it is: `serve` ends TLS and attests before it.
async fn serve(program: &Path, upstream: &Process, route: &str, files: &Path) -> Result<Process> {
    let upstream = format!("http://{}", upstream.address);
    let (cert, key) = (path(files, "cert.pem"), path(files, "key.pem"));
    let mut arguments = vec!["serve", "--host", NAME, "--upstream", &upstream, "--listen", ANY_PORT];
    arguments.extend(["--tls", "pem", "--cert", &cert, "--key", &key]);
    arguments.extend(["--platform", "sim-snp", "--insecure-no-hardware", "--sealed", "--route", route]);
    Process::start(program, &arguments, Ready::Says, files).await
}

/// The wallet stays as it is: `connect` beside it takes plaintext and sends it on over an attested channel.
async fn connect(program: &Path, port: u16, measurement: [u8; 48], flags: &[&str], files: &Path) -> Result<Process> {
    let to = format!("https://{NAME}:{port}");
    let (roots, policy) = (path(files, "cert.pem"), policy(files, measurement));
    let policy = policy.to_string_lossy();
    let mut arguments = vec!["connect", "--to", &to, "--policy", &policy, "--listen", ANY_PORT];
    arguments.extend(["--roots-file", &roots, "--insecure-simulator", "--offline"]);
    arguments.extend(flags);
    Process::start(program, &arguments, Ready::Says, files).await
}

/// The policy of `connect`, of one measurement.
fn policy_text(measurement: [u8; 48]) -> String {
    let value: String = measurement.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[snp.measurement]]\nname = \"the prover\"\nvalue = \"{value}\"\n")
}

fn policy(files: &Path, measurement: [u8; 48]) -> PathBuf {
    files.join(if measurement == MEASUREMENT { "policy.toml" } else { "another-policy.toml" })
}

fn path(files: &Path, name: &str) -> String {
    files.join(name).to_string_lossy().into_owned()
}
