//! A C library that runs polyloop inside a host written in another language.
//!
//! ```text
//! cargo build --release -p polyloop-inside-c
//! python3 examples/inside_c/host.py target/release/libpolyloop_inside_c.so
//! ```
//! The host calls five functions. Its event loop watches the descriptor that `plugin_start` returns, and
//! calls `plugin_turn` when that is readable: `host.py` does so in asyncio, `host_glib.c` in GLib's main
//! loop. All calls must be made on one thread.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use polyloop::io::copy;
use polyloop::net::{Server, TcpStream};
use polyloop::time::interval;
use polyloop::Runtime;

/// How long a turn may run before it returns to the host.
const BUDGET: Duration = Duration::from_millis(2);

thread_local! {
    static PLUGIN: RefCell<Option<Plugin>> = const { RefCell::new(None) };
}

/// An echo server and a clock.
struct Plugin {
    runtime: Runtime,
    port: u16,
    n_ticks: Rc<Cell<c_int>>,
}

impl Plugin {
    fn start() -> io::Result<Plugin> {
        let runtime = Runtime::new()?;
        let n_ticks = Rc::new(Cell::new(0));
        let ticks = n_ticks.clone();
        let port = runtime.enter(|| {
            let server = Server::bind("127.0.0.1:0")?;
            let port = server.local_addrs()[0].port();
            polyloop::spawn(server.serve(async |stream: TcpStream, _session| {
                copy(&stream, &stream).await?;
                Ok(())
            }));
            polyloop::spawn(async move {
                let mut beat = interval(Duration::from_millis(10));
                loop {
                    beat.tick().await;
                    ticks.set(ticks.get() + 1);
                }
            });
            io::Result::Ok(port)
        })?;
        Ok(Plugin { runtime, port, n_ticks })
    }
}

/// Calls `f` with the plugin. Returns -1 if `f` fails or the plugin has not been started on this thread.
fn with_plugin(f: impl FnOnce(&Plugin) -> io::Result<c_int>) -> c_int {
    PLUGIN.with_borrow(|plugin| match plugin {
        Some(plugin) => f(plugin).unwrap_or_else(|error| {
            eprintln!("plugin: {error}");
            -1
        }),
        None => -1,
    })
}

/// Starts the plugin. Returns the descriptor to watch for reading, or -1 on failure.
#[no_mangle]
pub extern "C" fn plugin_start() -> c_int {
    match Plugin::start() {
        Ok(plugin) => PLUGIN.set(Some(plugin)),
        Err(error) => eprintln!("plugin: {error}"),
    }
    with_plugin(|plugin| Ok(plugin.runtime.pollable_fd()?.as_raw_fd()))
}

/// Runs one turn; the host calls it when the descriptor is readable. Returns 0, or -1 on failure.
#[no_mangle]
pub extern "C" fn plugin_turn() -> c_int {
    with_plugin(|plugin| plugin.runtime.turn(Some(Duration::ZERO), BUDGET).map(|_| 0))
}

/// Returns the port of the echo server.
#[no_mangle]
pub extern "C" fn plugin_port() -> c_int {
    with_plugin(|plugin| Ok(plugin.port.into()))
}

/// Returns how many times the clock has ticked; it ticks every 10 ms.
#[no_mangle]
pub extern "C" fn plugin_ticks() -> c_int {
    with_plugin(|plugin| Ok(plugin.n_ticks.get()))
}

/// Stops the plugin. The host must stop watching the descriptor first.
#[no_mangle]
pub extern "C" fn plugin_stop() {
    drop(PLUGIN.take());
}
