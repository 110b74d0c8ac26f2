//! A way to a server that breaks off, or stands still, in the middle: bytes go through as they are,
//! until so many have gone through one connection in one direction.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// Bytes that are passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What happens on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    #[default]
    Fair,
    /// A connection breaks off after so many bytes.
    Cuts(Towards, usize),
    /// Nothing comes through after so many bytes, until the client hangs up.
    Stalls(Towards, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    Server,
    Client,
}

/// Leads to one server, for as long as the process runs.
pub struct Wire {
    pub address: String,
    weather: Arc<Mutex<Weather>>,
    struck: Arc<AtomicUsize>,
}

impl Wire {
    pub fn to(server: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let (weather, struck) = (Arc::<Mutex<Weather>>::default(), Arc::<AtomicUsize>::default());
        let (now, hits, server) = (weather.clone(), struck.clone(), server.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let weather = *now.lock().unwrap_or_else(PoisonError::into_inner);
                let (server, hits) = (server.clone(), hits.clone());
                // Either side may hang up at any time.
                thread::spawn(move || drop(connect(near, &server, weather, &hits)));
            }
        });
        Ok(Self { address, weather, struck })
    }

    /// For connections from now on; nothing has struck yet.
    pub fn is(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
        self.struck.store(0, SeqCst);
    }

    /// How many connections didn't get through.
    pub fn struck(&self) -> usize {
        self.struck.load(SeqCst)
    }
}

fn connect(
    near: TcpStream,
    server: &str,
    weather: Weather,
    struck: &Arc<AtomicUsize>,
) -> io::Result<()> {
    let far = TcpStream::connect(server)?;
    let (near_too, far_too, hits) = (near.try_clone()?, far.try_clone()?, struck.clone());
    thread::spawn(move || pass(near_too, far_too, Towards::Server, weather, &hits));
    pass(far, near, Towards::Client, weather, struck)
}

/// One direction, to its end.
fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    towards: Towards,
    weather: Weather,
    struck: &AtomicUsize,
) -> io::Result<()> {
    let mut left = match weather {
        Weather::Cuts(of, bytes) | Weather::Stalls(of, bytes) if of == towards => bytes,
        _ => usize::MAX,
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) | Err(_) => return to.shutdown(Shutdown::Write),
            Ok(read) => read,
        };
        to.write_all(&piece[..read.min(left)])?;
        if read < left {
            left = left.saturating_sub(read);
            continue;
        }
        struck.fetch_add(1, SeqCst);
        if matches!(weather, Weather::Stalls(..)) {
            let client = if towards == Towards::Server { &mut from } else { &mut to };
            while client.read(&mut piece).is_ok_and(|read| read > 0) {}
        }
        to.shutdown(Shutdown::Both)?;
        return from.shutdown(Shutdown::Both);
    }
}
