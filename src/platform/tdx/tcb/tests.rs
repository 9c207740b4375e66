use super::*;

#[test]
fn a_td_on_the_platform_it_was_launched_on_has_that_platforms_status() {
    for (status, _) in TcbStatus::ALL {
        assert_eq!(status.since_launch(status), status);
    }
}

#[test]
fn of_launch_and_now_the_worse_counts_and_an_update_since_asks_for_a_relaunch() {
    use TcbStatus::*;
    for (launch, now, expected) in [
        (UpToDate, ConfigurationNeeded, ConfigurationNeeded),
        (ConfigurationNeeded, UpToDate, ConfigurationNeeded),
        (SwHardeningNeeded, UpToDate, SwHardeningNeeded),
        (SwHardeningNeeded, ConfigurationNeeded, ConfigurationAndSwHardeningNeeded),
        (OutOfDate, UpToDate, TdRelaunchAdvised),
        (OutOfDate, ConfigurationNeeded, TdRelaunchAdvisedConfigurationNeeded),
        (OutOfDateConfigurationNeeded, UpToDate, TdRelaunchAdvisedConfigurationNeeded),
        (UpToDate, OutOfDate, OutOfDate),
        (ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
        (Revoked, UpToDate, Revoked),
        (UpToDate, Revoked, Revoked),
    ] {
        assert_eq!(launch.since_launch(now), expected, "{launch} at launch, {now} now");
    }
}

#[test]
fn a_verdict_has_all_advisories_once_and_the_oldest_date() {
    let verdict = |advisories: &[&str], date: &str| {
        let advisories: Vec<String> = advisories.iter().map(|&advisory| advisory.to_owned()).collect();
        Verdict::of(TcbStatus::UpToDate, &advisories, date)
    };
    let (older, newer) = (verdict(&["A", "B"], "2023-02-15T00:00:00Z"), verdict(&["B", "C"], "2024-03-13T00:00:00Z"));
    assert_eq!(older.clone().converge(&newer), verdict(&["A", "B", "C"], "2023-02-15T00:00:00Z"));
    assert_eq!(newer.converge(&older), verdict(&["B", "C", "A"], "2023-02-15T00:00:00Z"));
}
