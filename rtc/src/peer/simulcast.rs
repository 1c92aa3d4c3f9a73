//! The layers that a publisher said it sends (RFC 8853), as the answer repeats them.

/// Of each m-line that has several, its name and the layers' identifiers (RFC 8851) in the order they were named in.
pub(super) fn layers(answer: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    for section in answer.split("\nm=").skip(1) {
        let value = |prefix| section.lines().find_map(|line| line.strip_prefix(prefix));
        let (Some(mid), Some(received)) = (value("a=mid:"), value("a=simulcast:recv ")) else { continue };
        let received = received.split(' ').next().unwrap_or_default();
        // Of alternatives the first is what is preferred; one that is paused may go on.
        let rids = received.split(';').filter_map(|layer| layer.split(',').next());
        let rids = rids.map(|rid| rid.trim_start_matches('~')).filter(|rid| !rid.is_empty());
        found.push((mid, rids.collect()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_of_their_line() {
        let answer = "v=0\r\nm=audio 9 X 1\r\na=mid:0\r\nm=video 9 X 2\r\na=rid:h recv\r\na=simulcast:recv h,x;~m;l\r\na=mid:1\r\n";
        assert_eq!(layers(answer), [("1", vec!["h", "m", "l"])]);
        assert!(layers("m=video\r\na=simulcast:send h;l\r\na=mid:1\r\n").is_empty());
        assert!(layers("").is_empty());
    }
}
