//! What a policy made of a report, rule by rule.

/// One rule and what it made of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleOutcome {
    /// The rule's name, as the policy file spells it.
    pub rule: &'static str,
    /// What the rule accepts.
    pub expected: String,
    /// What the report holds.
    pub found: String,
    /// Whether the report satisfies the rule.
    pub passed: bool,
}

/// Every rule of a policy applied to one report: `SnpPolicy::judge` and `TdxPolicy::judge` make it, for people who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    rules: Vec<RuleOutcome>,
    measurement_name: Option<String>,
}

impl Judgement {
    #[cfg(any(feature = "snp", feature = "tdx"))]
    pub(crate) fn new(rules: Vec<RuleOutcome>, measurement_name: Option<String>) -> Self {
        Self { rules, measurement_name }
    }

    /// Each rule that applied, in a fixed order.
    pub fn rules(&self) -> &[RuleOutcome] {
        &self.rules
    }

    /// Whether every rule passed.
    pub fn accepted(&self) -> bool {
        self.rules.iter().all(|rule| rule.passed)
    }

    /// The policy's name for the measurement, if the report has a pinned one with a name.
    pub fn measurement_name(&self) -> Option<&str> {
        self.measurement_name.as_deref()
    }
}
