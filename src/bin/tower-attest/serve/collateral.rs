//! Where the collateral comes from that `serve` sends along with TDX quotes.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tower_attest::ReportProvider;
use tower_attest::platform::fetch::HttpsClient;
use tower_attest::tdx::{CollateralDirectory, CollateralSource, PcsClient, StaplingProvider};

use crate::failure::Failure;

/// A source of collateral, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Intel's own service.
    Intel,
    /// A PCCS, by its URL.
    Pccs(String),
    /// A directory.
    Directory(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "intel" => Self::Intel,
            url if url.contains("://") => Self::Pccs(url.to_owned()),
            path => Self::Directory(path.into()),
        })
    }
}

impl Source {
    /// A provider whose quotes come with collateral from here.
    pub(super) fn staple<P: ReportProvider>(&self, provider: P) -> Result<StaplingProvider<P>, Failure> {
        Ok(StaplingProvider::new(provider, self.open()?))
    }

    pub(super) fn open(&self) -> Result<Arc<dyn CollateralSource>, Failure> {
        Ok(match self {
            Self::Intel => Arc::new(PcsClient::new(HttpsClient::new())),
            Self::Pccs(url) => {
                let client = PcsClient::new(HttpsClient::new()).with_pccs(url);
                Arc::new(client.map_err(|error| Failure::during("--collateral", &error))?)
            }
            Self::Directory(dir) if dir.is_dir() => Arc::new(CollateralDirectory::new(dir)),
            Self::Directory(dir) => {
                return Err(Failure::undecided(format_args!(
                    "--collateral {}: expected intel, the URL of a PCCS or a directory, found none of them",
                    dir.display()
                )));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_intel_a_url_or_a_directory() {
        for (text, source) in [
            ("intel", Source::Intel),
            ("https://pccs.internal:8081", Source::Pccs("https://pccs.internal:8081".to_owned())),
            ("/etc/collateral", Source::Directory("/etc/collateral".into())),
            ("intel/", Source::Directory("intel/".into())),
        ] {
            assert_eq!(text.parse(), Ok(source));
        }
        assert!(Source::Directory("/nonexistent".into()).open().is_err());
        assert!(Source::Pccs("ftp://pccs.internal".to_owned()).open().is_err());
    }
}
