//! The body of the target of STUN and TURN messages. See `bodies`.

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this file.
pub const TARGETS: &[Target] = &[("turn", turn)];

/// Messages as they come by TCP, one after the other, and as datagrams. Who has shown nothing gets answers that are hardly
/// longer than what was asked.
pub fn turn(data: &[u8]) {
    let Some((&transport, data)) = data.split_first() else { return };
    let mut server = turn_server::fuzzing::Desk::new();
    let mut rest = data;
    let mut messages = 0;
    if transport & 1 == 0 {
        while let Some((&[l1, l0], after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes([l1, l0])).min(after.len());
            let (message, after) = after.split_at(length);
            rest = after;
            messages += 1;
            server.handle(message);
        }
    } else {
        while let Ok(Some(length)) = turn_server::fuzzing::length(rest) {
            assert!((4..=4_096).contains(&length));
            let Some((message, after)) = rest.split_at_checked(length) else { break };
            rest = after;
            messages += 1;
            server.handle(message);
        }
    }
    let answered = server.answered();
    assert!(answered <= 512 * messages, "{answered} bytes to {messages} messages");
}
