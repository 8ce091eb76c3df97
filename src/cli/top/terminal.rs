//! The terminal while the view has it: another screen, keys as they are pressed. It is put back at the end, however
//! that comes: by a key, a signal, a fault or a panic.

use std::{
    io::{self, Write},
    sync::Once,
};

use crossterm::{
    cursor::{Hide, Show},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size},
};

/// Where a terminal does not say how large it is.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// The terminal, taken.
#[derive(Debug)]
pub(super) struct Terminal(());

impl Terminal {
    /// Takes it.
    pub(super) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, or the panic's own text would be lost with the other screen.
                put_back();
                told(panic);
            }));
        });
        enable_raw_mode()?;
        // From here on a fault puts back what was changed.
        let taken = Self(());
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(taken)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        size().ok().filter(|&(width, height)| width > 0 && height > 0).unwrap_or(SIZE_DEFAULT)
    }

    /// Shows a page, as much of it as fits.
    pub(super) fn draw(&self, page: &str, height: u16) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let lines: Vec<&str> = page.lines().take(usize::from(height)).collect();
        // From the top over the old lines, each cleared to its end, then what is below: no flicker.
        write!(out, "\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_back();
    }
}

fn put_back() {
    // Each by itself: one that fails must not keep the other from being done, and nobody is left to be told.
    drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
    drop(disable_raw_mode());
}
