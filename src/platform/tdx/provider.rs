//! Quotes of the TD that this process runs in.

use async_trait::async_trait;
use bytes::Bytes;

use super::collateral::CollateralSource;
use super::quote::Quote;
use super::staple::StaplingProvider;
use crate::platform::tsm::{Tsm, TsmBuilder, tsm_settings};
use crate::provider::{ProviderError, ProviderErrorKind, ReportProvider};
use crate::report::{Platform, Report, ReportData};

/// What configfs-tsm calls the TDX guest driver.
const TSM_PROVIDER: &str = "tdx_guest";

/// Makes quotes of the TD that this process runs in. Linux only.
///
/// ```no_run
/// use tower_attest::platform::tdx::TdxProvider;
///
/// let provider = TdxProvider::open()?;
/// # Ok::<(), tower_attest::ProviderError>(())
/// ```
///
/// Linux 6.7 or later, by way of configfs-tsm. The kernel asks the host for the quote once per second and serves one
/// request at a time, so that a quote takes a second or more: the attester shares one among many requests. Azure's TDX
/// guests have no quote device (their evidence comes from a vTPM and a service of the host) and are not supported.
#[derive(Debug)]
pub struct TdxProvider {
    tsm: Tsm,
}

impl TdxProvider {
    /// Opens this guest's configfs-tsm. See [`TdxProviderBuilder::open`].
    ///
    /// # Errors
    ///
    /// As [`TdxProviderBuilder::open`].
    pub fn open() -> Result<Self, ProviderError> {
        Self::builder().open()
    }

    /// Settings, where [`open`](Self::open) does not fit.
    pub fn builder() -> TdxProviderBuilder {
        TdxProviderBuilder { tsm: Tsm::builder(TSM_PROVIDER) }
    }

    /// Staples collateral from `source` to every quote, so that clients need no route to Intel. See [`StaplingProvider`].
    #[must_use]
    pub fn staple(self, source: impl CollateralSource + 'static) -> StaplingProvider<Self> {
        StaplingProvider::new(self, source)
    }
}

#[async_trait]
impl ReportProvider for TdxProvider {
    fn platform(&self) -> Platform {
        Platform::TDX
    }

    async fn report(&self, data: &ReportData) -> Result<Report, ProviderError> {
        let quote = cut(self.tsm.report(data).await?.outblob, data.as_bytes())?;
        Ok(Report::new(Platform::TDX, quote))
    }
}

/// The quote at the start of the kernel's buffer. Zero bytes may follow it; anything else, or a quote over other data, is
/// an error here rather than at each client.
fn cut(blob: Vec<u8>, data: &[u8; 64]) -> Result<Bytes, ProviderError> {
    let blob = Bytes::from(blob);
    let length = Quote::declared_len(&blob)
        .filter(|length| *length <= blob.len())
        .ok_or_else(|| failed("quote: expected version 4 or 5 of the length that it says, found other bytes"))?;
    let quote = blob.slice(..length);
    if blob.iter().skip(length).any(|byte| *byte != 0) {
        return Err(failed("quote: expected nothing but zero bytes after it, found others"));
    }
    let parsed = Quote::parse(&quote)
        .map_err(|error| ProviderError::with_source(ProviderErrorKind::Failed, format!("quote: {error}"), error))?;
    if parsed.td_report().report_data != *data {
        return Err(failed("quote: expected REPORTDATA as asked for, found other bytes"));
    }
    Ok(quote)
}

fn failed(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Failed, message)
}

/// Settings of a [`TdxProvider`].
#[derive(Debug, Clone)]
#[must_use]
pub struct TdxProviderBuilder {
    tsm: TsmBuilder,
}

impl TdxProviderBuilder {
    tsm_settings!();

    /// Finds configfs-tsm and starts the thread that asks it, without asking for a quote.
    ///
    /// # Errors
    ///
    /// As [`TsmBuilder::open`](crate::platform::tsm::TsmBuilder::open).
    pub fn open(self) -> Result<TdxProvider, ProviderError> {
        Ok(TdxProvider { tsm: self.tsm.open()? })
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::platform::tdx::sim::{QuoteFormat, SimulatedTd};

    #[test]
    fn padding_is_cut_off_a_quote_of_each_format() {
        for format in [QuoteFormat::V4, QuoteFormat::V5Td10, QuoteFormat::V5Td15] {
            let quote = SimulatedTd::new([1; 48]).with_format(format).quote(&[7; 64]);
            let padded = [quote.clone(), vec![0; 3000]].concat();
            assert_eq!(cut(padded, &[7; 64]).unwrap(), quote);
            assert_eq!(cut(quote.clone(), &[7; 64]).unwrap(), quote);
        }
    }

    #[test]
    fn what_is_not_a_quote_over_the_data_and_zeros_is_an_error() {
        let quote = SimulatedTd::new([1; 48]).quote(&[7; 64]);
        let mut wrong_header = quote.clone();
        wrong_header[4] = 0;
        for (blob, message) in [
            ([quote.clone(), vec![0, 0, 1]].concat(), "nothing but zero bytes"),
            (quote[..quote.len() - 1].to_vec(), "of the length that it says"),
            (Vec::new(), "of the length that it says"),
            (vec![0x81; 1024], "of the length that it says"),
            (wrong_header, "SGX enclave"),
            (SimulatedTd::new([1; 48]).quote(&[8; 64]), "REPORTDATA as asked for"),
        ] {
            let error = cut(blob, &[7; 64]).unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Failed);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn a_machine_without_configfs_tsm_is_refused_at_once() {
        let error = TdxProvider::builder().tsm_root("/nonexistent/tsm").open().unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported, "{error}");
    }
}
