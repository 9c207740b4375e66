//! `verify`: one fresh attested exchange with a server, and what follows from it.

mod exchange;
mod verdict;

use std::process::ExitCode;

use clap::Args;
use http::Uri;

use crate::failure::{Failure, REFUSED, UNDECIDED};
use crate::show::{self, Format};
use crate::trust::Trust;

pub(crate) use self::exchange::channel;

const EXAMPLES: &str = "\
An https server is verified on an attested channel: the evidence is bound to
this very connection. Behind a proxy that ends TLS, or over plain http, that
cannot be. --sealed then encrypts to the TEE, where it takes sealed requests;
--presence asks for less: that a TEE is there.

Exit codes: 0 verified, 1 refused, 2 could not tell.

Examples:
  tower-attest verify https://prover.example --policy policy.toml
  tower-attest verify https://prover.example --policy policy.toml --json
  tower-attest verify https://balancer.example --policy policy.toml --sealed
  tower-attest verify http://127.0.0.1:8082 --policy policy.toml --presence";

/// Asks a server for fresh evidence, and says who it is or why it is not believed.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Verify {
    /// The server: https://HOST or https://HOST:PORT, with --presence or --sealed also http.
    #[arg(value_name = "URL", value_parser = origin)]
    url: Uri,
    /// Be content with a TEE that is present somewhere behind the address. Whoever ends TLS can read and change requests.
    #[arg(long)]
    presence: bool,
    /// Seal one request, `HEAD /`, to a key in verified evidence. It goes through whatever ends TLS on the way.
    #[arg(long, conflicts_with = "presence")]
    sealed: bool,
    /// Write JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: Trust,
}

/// A URL that is an origin, and nothing more.
pub(crate) fn origin(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let plain = matches!(uri.scheme_str(), Some("https" | "http"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(uri.path_and_query().map(|target| target.as_str()), None | Some("/"));
    if plain { Ok(uri) } else { Err("expected https://HOST or https://HOST:PORT".to_owned()) }
}

impl Verify {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if !self.presence && !self.sealed && self.url.scheme_str() != Some("https") {
            return Err(Failure::undecided(
                "an attested channel needs https; over plain http use --sealed, or ask for less with --presence",
            ));
        }
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::during("starting", &error))?;
        runtime.block_on(self.verify())
    }

    async fn verify(self) -> Result<ExitCode, Failure> {
        let believer = self.trust.open()?;
        believer.ready().await;
        let exchange = if self.presence {
            exchange::presence(&believer, &self.url).await?
        } else if self.sealed {
            exchange::sealed(&believer, &self.url).await?
        } else {
            exchange::channel(believer.channel(self.url.clone())).await
        };
        let format = if self.json { Format::Json } else { Format::Text };
        let url = self.url.to_string();
        Ok(match exchange {
            Ok(report) => {
                verdict::verified(&url, &report).print(format);
                ExitCode::SUCCESS
            }
            Err(refusal) if refusal.is_final() => {
                verdict::refused(&url, &refusal).print(format);
                ExitCode::from(REFUSED)
            }
            Err(refusal) => {
                let hint = if self.presence || self.sealed { None } else { refusal.hint() };
                let hint = hint.map_or(String::new(), |hint| format!("\n{hint}"));
                show::problem(format, &url, None, &format!("{refusal}{hint}"));
                ExitCode::from(UNDECIDED)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_origin() {
        for good in ["https://prover.example", "https://prover.example:8443/", "http://127.0.0.1:80"] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in ["prover.example", "ftp://a", "https://a/path", "https://user@a", "https://", "https://a?q"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
