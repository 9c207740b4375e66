//! Measures several variants of one thing in turn, batch by batch, so that a noisy machine disturbs all alike.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use tokio::runtime::Runtime;

type Batch = Box<dyn Fn() -> Pin<Box<dyn Future<Output = usize>>>>;

/// Variants of one thing, the first of which the others are compared with.
pub(crate) struct Variants {
    title: String,
    variants: Vec<(&'static str, Batch)>,
}

impl Variants {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), variants: Vec::new() }
    }

    /// `batch` makes some requests and says how many.
    pub(crate) fn variant<F: Future<Output = usize> + 'static>(
        mut self,
        name: &'static str,
        batch: impl Fn() -> F + 'static,
    ) -> Self {
        self.variants.push((name, Box::new(move || Box::pin(batch()))));
        self
    }

    /// Prints a row of a Markdown table for each variant: the median time per request, and the median of its ratios to the
    /// first variant with the order statistics that hold that with 95 %.
    pub(crate) fn run(self, runtime: &Runtime, rounds: usize) {
        let mut times = vec![Vec::with_capacity(rounds); self.variants.len()];
        // The first two rounds warm up.
        for round in 0..rounds + 2 {
            for turn in 0..self.variants.len() {
                // Each goes first as often as the others.
                let index = (turn + round) % self.variants.len();
                let start = Instant::now();
                let requests = runtime.block_on(self.variants[index].1());
                let time = start.elapsed().as_secs_f64() * 1e6 / requests as f64;
                if round >= 2 {
                    times[index].push(time);
                }
            }
        }
        println!("\n| {} | µs per request | against the first | 95 % |\n|---|---|---|---|", self.title);
        let first = times[0].clone();
        for ((name, _), times) in self.variants.iter().zip(times) {
            let ratios = sorted(times.iter().zip(&first).map(|(time, first)| time / first).collect());
            let times = sorted(times);
            let spread = (0.98 * (rounds as f64).sqrt()).ceil() as usize;
            let (middle, last) = (rounds / 2, rounds - 1);
            println!(
                "| {name} | {:.1} | {:.2} | {:.2} to {:.2} |",
                times[middle],
                ratios[middle],
                ratios[middle.saturating_sub(spread)],
                ratios[(middle + spread).min(last)],
            );
        }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
