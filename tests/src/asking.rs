//! Questions over TCP to whoever serves in a lab; the lab's responders answer with a line that says who they are.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use lab::Place;

/// Who answers a connection; why nobody does, else.
///
/// # Panics
/// When the place is gone.
pub fn who(from: &Place, to: IpAddr, port: u16, limit: Duration) -> Result<String, ErrorKind> {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"who are you?\n")?;
        let mut line = String::new();
        match BufReader::new(stream).read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    match from.run(asked) {
        Ok(answer) => answer.map_err(|error| error.kind()),
        Err(error) => panic!("cannot enter {}: {error}", from.name()),
    }
}
