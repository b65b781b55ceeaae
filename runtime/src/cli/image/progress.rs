//! How far the store has got: a bar on a terminal, a line for each layer elsewhere. All of it on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rootfs::image::{Digest, Layer};
use rootfs::store::Progress;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Draws, tells or is silent.
pub(in crate::cli) struct Shown {
    quiet: bool,
    bar: Option<ProgressBar>,
    layers: AtomicUsize,
    done: AtomicUsize,
}

impl Shown {
    pub(in crate::cli) fn new(quiet: bool) -> Shown {
        let terminal = !quiet && rustix::termios::isatty(rustix::stdio::stderr());
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes} of {total_bytes}");
        let bar = style.ok().filter(|_| terminal).map(|style| {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
        });
        Shown { quiet, bar, layers: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        let text = crate::cli::printable(text);
        match &self.bar {
            Some(bar) if self.layers.load(Ordering::Relaxed) > 0 => bar.println(&text),
            _ => drop(rustix::io::write(rustix::stdio::stderr(), format!("{text}\n").as_bytes())),
        }
    }

    fn count(&self) -> String {
        format!("layer {} of {}", self.done.load(Ordering::Relaxed), self.layers.load(Ordering::Relaxed))
    }
}

impl Progress for Shown {
    fn layers(&self, layers: &[&Layer]) {
        self.layers.store(layers.len(), Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(layers.iter().map(|layer| layer.size).sum());
            bar.set_message(self.count());
        }
    }

    fn advanced(&self, _: &Digest, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn done(&self, layer: &Digest) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => bar.set_message(self.count()),
            None => self.say(&format!("{}: {}", self.count(), layer.hex().chars().take(12).collect::<String>())),
        }
    }

    fn syncing(&self) {
        match &self.bar {
            Some(bar) => bar.set_message("writing to disk"),
            None => self.say("writing to disk"),
        }
    }

    fn removed(&self, what: &str, bytes: u64) {
        match bytes {
            0 => self.say(&format!("removed {what}")),
            _ => self.say(&format!("removed {what}, {}", super::size(bytes))),
        }
    }

    fn warning(&self, text: &str) {
        log::warn!("{text}");
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
