//! Two things measured alternately in one process, so that a noisy machine disturbs both alike.

use std::time::{Duration, Instant};

/// How often each is measured; the first tenth fills caches and is left out.
pub(crate) const ROUNDS: usize = 400;

/// Runs both in turn, with the number of the round, and prints what the second costs over the first: the least of each,
/// the medians, and the 95 % interval of the ratio's median (from order statistics of the rounds' own ratios).
pub(crate) fn pair(name: &str, mut base: impl FnMut(usize), mut ours: impl FnMut(usize)) {
    let time = |f: &mut dyn FnMut(usize), round: usize| {
        let start = Instant::now();
        f(round);
        start.elapsed()
    };
    let (mut bases, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (first, second) = (time(&mut base, round), time(&mut ours, round));
        if round >= ROUNDS / 10 {
            bases.push(first);
            all.push(second);
            ratios.push(second.as_secs_f64() / first.as_secs_f64());
        }
    }
    bases.sort_unstable();
    all.sort_unstable();
    ratios.sort_unstable_by(f64::total_cmp);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{name}");
    for (what, base, ours) in [("least", bases[0], all[0]), ("median", bases[bases.len() / 2], all[all.len() / 2])] {
        let ratio = micros(ours) / micros(base);
        println!("  {what:<7} base {:8.1} us, ours {:8.1} us, ratio {ratio:.3}", micros(base), micros(ours));
    }
    // Ranks n/2 -+ 0.98 sqrt(n) enclose the median with 95 %.
    let (n, half) = (ratios.len(), ratios.len() / 2);
    let reach = (0.98 * f64::from(u32::try_from(n).expect("few rounds")).sqrt()).ceil();
    let reach = (0..half).take_while(|rank| f64::from(u32::try_from(*rank).expect("few rounds")) < reach).count();
    println!(
        "  rounds' ratio: median {:.3}, 95 % {:.3} to {:.3}",
        ratios[half],
        ratios[half - reach],
        ratios[half + reach]
    );
}
