use proptest::prelude::*;

use super::*;

fn entry() -> impl Strategy<Value = Entry> {
    // Strings with every kind of character: newlines, quotes, backslashes, zeroes, any script.
    let text = || proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter);
    prop_oneof![
        (any::<u64>(), text(), text()).prop_map(|(ordinal, directory, extension)| Entry::Group {
            ordinal,
            directory,
            extension
        }),
        (text(), text(), any::<u64>()).prop_map(|(key, etag, size)| Entry::Source(Source {
            key,
            etag,
            size
        })),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(entries in proptest::collection::vec(entry(), 0..20)) {
        let segment = Segment { entries };
        let lines = segment.encode().unwrap();
        prop_assert_eq!(memchr::memchr_iter(b'\n', &lines).count(), segment.entries.len());
        prop_assert_eq!(Segment::decode(&lines).unwrap(), segment);
    }

    #[test]
    fn a_cut_within_a_line_is_an_error(entries in proptest::collection::vec(entry(), 1..5), at in any::<prop::sample::Index>()) {
        let lines = Segment { entries }.encode().unwrap();
        let cut = &lines[..at.index(lines.len())];
        if !cut.is_empty() && !cut.ends_with(b"}") && !cut.ends_with(b"\n") {
            prop_assert!(Segment::decode(cut).is_err());
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Segment::decode(&bytes);
    }
}

#[test]
fn garbage_is_an_error() {
    let deep = "[".repeat(100_000);
    for garbage in [
        "x",
        "{}",
        "[]",
        "null",
        "{\"key\":\"a\"}",
        "{\"key\":\"a\",\"etag\":\"e\",\"size\":-1}",
        "{\"key\":\"a\",\"etag\":\"e\",\"size\":1,\"more\":1}",
        "{\"key\":\"a\",\"etag\":\"e\",\"size\":1}\nx",
        &deep,
    ] {
        Segment::decode(garbage.as_bytes()).expect_err(&garbage[..garbage.len().min(60)]);
    }
    Segment::decode(b"{\"key\":\"\xff\",\"etag\":\"e\",\"size\":1}").unwrap_err();
}

#[test]
fn the_form_of_the_lines_is_frozen() {
    let segment = Segment {
        entries: vec![
            Entry::Group {
                ordinal: 3,
                directory: "d/".to_owned(),
                extension: ".json".to_owned(),
            },
            Entry::Source(Source {
                key: "in/d/a\n".to_owned(),
                etag: "\"e\"".to_owned(),
                size: 7,
            }),
        ],
    };
    let lines = concat!(
        r#"{"ordinal":3,"directory":"d/","extension":".json"}"#,
        "\n",
        r#"{"key":"in/d/a\n","etag":"\"e\"","size":7}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(segment.encode().unwrap()).unwrap(), lines);
}
