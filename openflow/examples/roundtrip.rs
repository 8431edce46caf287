//! Reads hex lines, writes the re-encoded hex or the error: a scratch tool.
use std::io::BufRead;
fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("stdin is readable");
        let bytes: Vec<u8> = (0..line.len() / 2)
            .map(|i| u8::from_str_radix(&line[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        match openflow::Message::decode(&bytes) {
            Ok((xid, message)) => match message.to_bytes(xid) {
                Ok(out) if out[..] == bytes[..] => println!("ok\t{message:?}"),
                Ok(out) => println!("DIFF {out:02x?} {message:?}"),
                Err(error) => println!("ENC {error} {message:?}"),
            },
            Err(error) => println!("DEC {error}"),
        }
    }
}
